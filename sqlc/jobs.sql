-- The job table, its history, and what the statements that move a job leave
-- for the relay: a row in outbox while it is queued, and a row in job_feed
-- with the events of each tenant. A job knows the number of its row in outbox
-- (ask), so that no index there has the jobs' ids. Used by package db only.

-- name: EnqueueJobs :many
-- Makes the jobs that do not exist yet, each with its first event, and gives
-- the times of those. Each id is there once. One whose project is not there is
-- not made. Who asks, and why, is mostly the same for all; where it is not,
-- actor_of and reason_of say so by the job's id. To join what was made with
-- what was wanted would take a tenth more time. Arguments with escapes go
-- through jsonb, which refuses what no text can be: json would keep it, and
-- whoever reads one field of it would fail. The lists of the feed's row are made
-- only where the caller says that they are not the same for all.
WITH known AS ( -- as a foreign key would, but once for each project
    SELECT p.id, p.team_id FROM projects p WHERE p.id = ANY (@projects::text[]) FOR KEY SHARE
), made AS (
    INSERT INTO observation_generation_jobs (
        id, team_id, project_id, job_type, source_type, source_id, payload, request_id, priority, max_attempts,
        status, version, asked, ask, next_attempt_at, created_at, updated_at)
    SELECT w.id, w.team_id, w.project_id, w.job_type, w.source_type, w.source_id,
           CASE WHEN @escapes::bool THEN CAST(CAST(w.payload AS jsonb) AS json) ELSE CAST(w.payload AS json) END, w.request_id,
           w.priority, w.max_attempts, 'queued', 1, 1, nextval('outbox_id_seq'),
           CASE WHEN w.delay_us > 0 THEN statement_timestamp() + interval '1 microsecond' * w.delay_us END,
           statement_timestamp(), statement_timestamp()
    FROM (
        SELECT unnest(@ids::text[]) AS id,
               unnest(@team_ids::text[]) AS team_id,
               unnest(@project_ids::text[]) AS project_id,
               unnest(@job_types::text[]) AS job_type,
               unnest(@source_types::text[]) AS source_type,
               unnest(@source_ids::text[]) AS source_id,
               unnest(@payloads::text[]) AS payload,
               unnest(@request_ids::text[]) AS request_id,
               unnest(@priorities::int[]) AS priority,
               unnest(@max_attempts::int[]) AS max_attempts,
               unnest(@delays_us::bigint[]) AS delay_us
    ) w
    JOIN known k ON k.id = w.project_id AND k.team_id = w.team_id
    ORDER BY w.id
    ON CONFLICT DO NOTHING
    RETURNING id, team_id, project_id, job_type, request_id, priority, ask, next_attempt_at, created_at
), noted AS (
    INSERT INTO observation_generation_job_events (
        job_id, version, team_id, project_id, event_type, status_after, attempt, at, next_at,
        actor, process, build, request_id, reason, schema)
    SELECT m.id, 1, m.team_id, m.project_id, 'queued', 'queued', 0, m.created_at, m.next_attempt_at,
           COALESCE(@actor_of::jsonb ->> m.id, @actor::text), @process::text, @build::text, m.request_id,
           COALESCE(@reason_of::jsonb ->> m.id, @reason::text), @schema::int
    FROM made m
), asked AS (
    INSERT INTO outbox (id, job_id, team_id, project_id, job_type, asked, priority, due_at) OVERRIDING SYSTEM VALUE
    SELECT m.ask, m.id, m.team_id, m.project_id, m.job_type, 1, m.priority, m.next_attempt_at FROM made m
), fed AS (
    INSERT INTO job_feed (team_id, project_id, job_type, event_type, status_after, actor, process, build, schema,
        events, ids, versions, attempts, ats, next_ats, request_ids, reasons)
    SELECT m.team_id, m.project_id, m.job_type, 'queued', 'queued', COALESCE(@actor_of::jsonb ->> m.id, @actor::text) AS actor,
           @process::text, @build::text, @schema::int,
           count(*), string_agg(m.id, ','), '{1}'::int[], '{0}'::int[], ARRAY[statement_timestamp()],
           COALESCE(array_agg(COALESCE(m.next_attempt_at, 'epoch')) FILTER (WHERE @delayed::bool), '{}'),
           COALESCE(array_agg(m.request_id) FILTER (WHERE @requests::bool), ARRAY[@request_id::text]),
           COALESCE(array_agg(COALESCE(@reason_of::jsonb ->> m.id, @reason::text)) FILTER (WHERE @reasons::bool), ARRAY[@reason::text])
    FROM made m
    GROUP BY m.team_id, m.project_id, m.job_type, 6
)
SELECT m.id, m.created_at, m.next_attempt_at FROM made m;

-- name: EnqueueJob :one
-- What EnqueueJobs does, for one job that is due at once and asked for without
-- a reason: no row where it is there already or its project is not. Most of
-- what a statement costs that writes so little is to begin and end it, and
-- that goes by its nodes. So its event is told from its row in the outbox.
WITH made AS (
    INSERT INTO observation_generation_jobs (
        id, team_id, project_id, job_type, source_type, source_id, payload, request_id, priority, max_attempts,
        status, version, asked, ask, created_at, updated_at)
    SELECT @id::text, p.team_id, p.id, @job_type::text, @source_type::text, @source_id::text, CASE WHEN @escapes::bool THEN CAST(CAST(@payload::text AS jsonb) AS json) ELSE CAST(@payload::text AS json) END, @request_id::text,
           @priority::int, @max_attempts::int, 'queued', 1, 1, nextval('outbox_id_seq'), statement_timestamp(), statement_timestamp()
    FROM projects p WHERE p.id = @project_id::text AND CASE WHEN p.team_id = @team_id::text THEN true END
    FOR KEY SHARE
    ON CONFLICT DO NOTHING
    RETURNING ask, created_at
), noted AS (
    INSERT INTO observation_generation_job_events (
        job_id, version, team_id, project_id, event_type, status_after, attempt, at,
        actor, process, build, request_id, schema)
    SELECT @id::text, 1, @team_id::text, @project_id::text, 'queued', 'queued', 0, m.created_at,
           @actor::text, @process::text, @build::text, @request_id::text, @schema::int
    FROM made m
), asked AS (
    INSERT INTO outbox (id, job_id, team_id, project_id, job_type, asked, priority, told, at, actor, process, build, request_id, schema) OVERRIDING SYSTEM VALUE
    SELECT m.ask, @id::text, @team_id::text, @project_id::text, @job_type::text, 1, @priority::int,
           false, m.created_at, @actor::text, @process::text, @build::text, @request_id::text, @schema::int
    FROM made m
)
SELECT m.created_at FROM made m;

-- name: TellQueued :exec
-- Before a job that waits makes another step than to begin: what its row in
-- the outbox has to tell goes before that into the feed. The job is locked
-- first, as by everybody who locks both.
WITH late AS MATERIALIZED (
    SELECT o.job_id FROM outbox o
    WHERE o.id = ANY (ARRAY(
        SELECT j.ask FROM observation_generation_jobs j
        JOIN (SELECT unnest(@ids::text[]) AS id, unnest(@team_ids::text[]) AS team_id, unnest(@project_ids::text[]) AS project_id) w
          ON j.id = w.id AND j.id = ANY(@ids::text[]) AND CASE WHEN j.team_id = w.team_id AND j.project_id = w.project_id THEN true END))
      AND CASE WHEN NOT o.told THEN true END
), job AS MATERIALIZED (
    SELECT j.ask FROM observation_generation_jobs j WHERE j.id = ANY (ARRAY(SELECT l.job_id FROM late l)) ORDER BY j.id FOR NO KEY UPDATE
), told AS (
    UPDATE outbox o SET told = true WHERE o.id = ANY (ARRAY(SELECT j.ask FROM job j)) AND CASE WHEN NOT o.told THEN true END
    RETURNING o.*
)
INSERT INTO job_feed (team_id, project_id, job_type, event_type, status_after, actor, process, build, schema,
    events, ids, versions, attempts, ats, next_ats, request_ids, reasons)
SELECT o.team_id, o.project_id, o.job_type, 'queued', 'queued', o.actor, o.process, o.build, o.schema,
       count(*), string_agg(o.job_id, ','), array_agg(o.asked), '{0}'::int[], array_agg(o.at), '{}'::timestamptz[], array_agg(o.request_id), '{""}'::text[]
FROM told o
GROUP BY o.team_id, o.project_id, o.job_type, o.actor, o.process, o.build, o.schema;

-- name: MoveJobs :many
-- Stores steps that events.Job.Apply has computed: each updates the row only
-- if it is still at the version that the step was computed from, and appends
-- the event in the same statement. A step whose row has moved on is left out
-- of the answer. All but the id is compared inside a CASE to hide it from the
-- planner: with cold statistics it would walk the rows of the tenant instead.
-- That the id is one of the list is said twice: a plan that was made while the
-- table was small, and kept, would otherwise join with the whole of it.
WITH step AS (
    SELECT unnest(@ids::text[]) AS id,
           unnest(@team_ids::text[]) AS team_id,
           unnest(@project_ids::text[]) AS project_id,
           unnest(@versions::int[]) AS version,
           unnest(@types::text[]) AS type,
           unnest(@asks::bool[]) AS asks,
           unnest(@waited::bool[]) AS waited,
           unnest(@statuses::text[]) AS status,
           unnest(@asked::int[]) AS asked,
           unnest(@attempts::int[]) AS attempts,
           unnest(@locked_by::text[]) AS locked_by,
           unnest(@last_errors::text[]) AS last_error,
           unnest(@delays_us::bigint[]) AS delay_us,
           unnest(@actors::text[]) AS actor,
           unnest(@processes::text[]) AS process,
           unnest(@builds::text[]) AS build,
           unnest(@request_ids::text[]) AS request_id,
           unnest(@reasons::text[]) AS reason,
           unnest(@details::text[]) AS details
), moved AS (
    UPDATE observation_generation_jobs j SET
        status = s.status,
        version = j.version + 1,
        asked = s.asked,
        ask = CASE WHEN s.asks THEN nextval('outbox_id_seq') ELSE j.ask END,
        attempts = s.attempts,
        locked_by = NULLIF(s.locked_by, ''),
        locked_at = CASE WHEN s.locked_by <> '' THEN GREATEST(statement_timestamp(), j.updated_at) END,
        last_error = NULLIF(s.last_error, ''),
        next_attempt_at = CASE
            WHEN s.type = 'enqueued' THEN j.next_attempt_at
            WHEN s.delay_us > 0 THEN GREATEST(statement_timestamp(), j.updated_at) + interval '1 microsecond' * s.delay_us
        END,
        completed_at = CASE WHEN s.status = 'completed' THEN GREATEST(statement_timestamp(), j.updated_at) END,
        failed_at = CASE WHEN s.status = 'failed' THEN GREATEST(statement_timestamp(), j.updated_at) END,
        cancelled_at = CASE WHEN s.status = 'cancelled' THEN GREATEST(statement_timestamp(), j.updated_at) END,
        updated_at = GREATEST(statement_timestamp(), j.updated_at)
    FROM step s
    WHERE j.id = s.id AND j.id = ANY(@ids::text[])
      AND CASE WHEN j.version = s.version AND j.project_id = s.project_id AND j.team_id = s.team_id THEN true END
    RETURNING j.id, j.team_id, j.project_id, j.job_type, j.version, j.status, j.asked, j.ask, j.attempts, j.priority, j.locked_by,
              j.next_attempt_at, j.updated_at, s.type, s.asks, s.waited, s.actor, s.process, s.build, s.request_id, s.reason, s.details
), noted AS (
    INSERT INTO observation_generation_job_events (
        job_id, version, team_id, project_id, event_type, status_after, attempt, at, next_at,
        actor, process, build, request_id, reason, details, schema)
    SELECT m.id, m.version, m.team_id, m.project_id, m.type, m.status, m.attempts, m.updated_at,
           CASE WHEN m.asks THEN m.next_attempt_at END,
           m.actor, m.process, m.build, m.request_id, m.reason, NULLIF(m.details, '')::jsonb, @schema::int
    FROM moved m
), gone AS ( -- no join: the outbox is often empty when it is analyzed, and one would read all of it, and what is dead in it
    DELETE FROM outbox o
    WHERE o.id = ANY (ARRAY(
            SELECT m.ask FROM moved m WHERE m.waited AND m.status <> 'queued'
            UNION ALL -- one that waits and is asked for anew: this statement sees its row as it was before
            SELECT b.ask FROM observation_generation_jobs b WHERE b.id = ANY (ARRAY(SELECT m.id FROM moved m WHERE m.waited AND m.asks))))
      AND CASE WHEN (o.job_id, o.project_id, o.team_id) IN (SELECT m.id, m.project_id, m.team_id FROM moved m WHERE m.waited) THEN true END
), again AS (
    INSERT INTO outbox (id, job_id, team_id, project_id, job_type, asked, priority, due_at) OVERRIDING SYSTEM VALUE
    SELECT m.ask, m.id, m.team_id, m.project_id, m.job_type, m.asked, m.priority, m.next_attempt_at
    FROM moved m WHERE m.asks
), fed AS (
    INSERT INTO job_feed (team_id, project_id, job_type, event_type, status_after, actor, process, build, schema,
        events, ids, versions, attempts, ats, next_ats, request_ids, reasons)
    SELECT m.team_id, m.project_id, m.job_type, m.type, m.status, m.actor, m.process, m.build, @schema::int,
           count(*), string_agg(m.id, ','), array_agg(m.version), array_agg(m.attempts), array_agg(m.updated_at),
           array_agg(CASE WHEN m.asks AND m.next_attempt_at IS NOT NULL THEN m.next_attempt_at ELSE 'epoch' END),
           array_agg(m.request_id), array_agg(m.reason)
    FROM moved m
    GROUP BY m.team_id, m.project_id, m.job_type, m.type, m.status, m.actor, m.process, m.build
), met AS ( -- whoever holds a job has a row, or nobody would look for what it holds
    INSERT INTO workers (id, name, seen_at)
    SELECT DISTINCT m.locked_by, m.locked_by, 'epoch'::timestamptz FROM moved m WHERE m.locked_by IS NOT NULL
    ON CONFLICT DO NOTHING
)
SELECT m.id, m.updated_at, m.next_attempt_at FROM moved m;

-- name: ClaimJobs :many
-- The step that every job takes, without reading the job first: what waits for
-- just this attempt begins. It is what events.Job.Apply makes of a queued job
-- and processing, and the caller verifies that. Those that are not in the
-- answer have to be read. They begin now, or at began_at if that is given. For
-- somebody who has one of the rows in a transaction it waits as long as
-- lock_timeout says, and then claims none.
WITH limits AS MATERIALIZED (
    SELECT set_config('lock_timeout', @lock_timeout::text, true) -- until the transaction ends
), want AS (
    SELECT unnest(@ids::text[]) AS id,
           unnest(@team_ids::text[]) AS team_id,
           unnest(@project_ids::text[]) AS project_id,
           unnest(@job_types::text[]) AS job_type,
           unnest(@asked::int[]) AS asked
    FROM limits
), moved AS (
    UPDATE observation_generation_jobs j SET
        status = 'processing',
        version = j.version + 1,
        attempts = j.attempts + 1,
        locked_by = @worker::text,
        locked_at = GREATEST(COALESCE(sqlc.narg('began_at')::timestamptz, statement_timestamp()), j.updated_at),
        next_attempt_at = NULL,
        updated_at = GREATEST(COALESCE(sqlc.narg('began_at')::timestamptz, statement_timestamp()), j.updated_at)
    FROM want w
    WHERE j.id = w.id AND j.id = ANY(@ids::text[])
      AND CASE WHEN j.asked = w.asked AND j.status = 'queued' AND j.attempts < j.max_attempts
                AND j.job_type = w.job_type AND j.project_id = w.project_id AND j.team_id = w.team_id THEN true END
    RETURNING j.*
), noted AS (
    INSERT INTO observation_generation_job_events (
        job_id, version, team_id, project_id, event_type, status_after, attempt, at, actor, process, build, request_id, schema)
    SELECT m.id, m.version, m.team_id, m.project_id, 'processing', m.status, m.attempts, m.updated_at,
           @actor::text, @worker::text, @build::text, m.request_id, @schema::int
    FROM moved m
), gone AS (
    DELETE FROM outbox o -- no join: the outbox is often empty when it is analyzed, and one would compare each with each
    WHERE o.id = ANY (ARRAY(SELECT m.ask FROM moved m))
      AND CASE WHEN (o.job_id, o.project_id, o.team_id) IN (SELECT m.id, m.project_id, m.team_id FROM moved m) THEN true END
    RETURNING o.*
), fed AS ( -- in this order: no event is told before an earlier one
    INSERT INTO job_feed (team_id, project_id, job_type, event_type, status_after, actor, process, build, schema,
        events, ids, versions, attempts, ats, next_ats, request_ids, reasons)
    SELECT g.team_id, g.project_id, g.job_type, 'queued', 'queued', g.actor, g.process, g.build, g.schema,
           count(*), string_agg(g.job_id, ','), array_agg(g.asked), '{0}'::int[], array_agg(g.at), '{}'::timestamptz[], array_agg(g.request_id), '{""}'::text[]
    FROM gone g WHERE NOT g.told
    GROUP BY g.team_id, g.project_id, g.job_type, g.actor, g.process, g.build, g.schema
    UNION ALL
    SELECT m.team_id, m.project_id, m.job_type, 'processing', 'processing', @actor::text, @worker::text, @build::text, @schema::int,
           count(*), string_agg(m.id, ','), array_agg(m.version), array_agg(m.attempts), array_agg(m.updated_at),
           '{}'::timestamptz[], array_agg(m.request_id), '{""}'::text[]
    FROM moved m
    GROUP BY m.team_id, m.project_id, m.job_type
), met AS ( -- as in MoveJobs
    INSERT INTO workers (id, name, seen_at)
    SELECT @worker::text, @worker::text, 'epoch'::timestamptz WHERE EXISTS (SELECT FROM moved)
    ON CONFLICT DO NOTHING
)
SELECT m.id, m.team_id, m.project_id, m.job_type, m.source_type, m.source_id, m.payload, m.request_id, m.priority, m.max_attempts,
       m.version, m.asked, m.attempts, m.last_error, m.created_at, m.updated_at
FROM moved m;

-- name: LookAtJobs :many
-- The jobs that wait for just these attempts, by their numbers in the lists, as
-- they are but for what was compared, for those who do brief ones: nothing is
-- locked or written. began_at is when they begin.
SELECT w.number::int AS number, j.source_type, j.source_id, j.payload, j.request_id, j.priority, j.max_attempts,
       j.version, j.attempts, j.last_error, j.created_at, GREATEST(statement_timestamp(), j.updated_at)::timestamptz AS began_at
FROM (
    SELECT unnest(@numbers::int[]) AS number,
           unnest(@ids::text[]) AS id,
           unnest(@team_ids::text[]) AS team_id,
           unnest(@project_ids::text[]) AS project_id,
           unnest(@job_types::text[]) AS job_type,
           unnest(@asked::int[]) AS asked
) w
JOIN observation_generation_jobs j ON j.id = w.id AND j.id = ANY(@ids::text[])
 AND CASE WHEN j.asked = w.asked AND j.status = 'queued' AND j.attempts < j.max_attempts
           AND j.job_type = w.job_type AND j.project_id = w.project_id AND j.team_id = w.team_id THEN true END;

-- name: LookAtJob :many
-- LookAtJobs for one, as EnqueueJob is to EnqueueJobs.
SELECT 0::int AS number, j.source_type, j.source_id, j.payload, j.request_id, j.priority, j.max_attempts,
       j.version, j.attempts, j.last_error, j.created_at, GREATEST(statement_timestamp(), j.updated_at)::timestamptz AS began_at
FROM observation_generation_jobs j
WHERE j.id = @id::text
  AND CASE WHEN j.asked = @asked::int AND j.status = 'queued' AND j.attempts < j.max_attempts
            AND j.job_type = @job_type::text AND j.project_id = @project_id::text AND j.team_id = @team_id::text THEN true END;

-- name: CompleteJobs :many
-- Two steps at once: what LookAtJobs gave begins, and is completed. It is what
-- events.Job.Apply makes of a queued job, processing and completed, and each
-- row has to be at the version that was looked at. Gives how many of each
-- tenant's were, and their ids, with commas between, if any was not. As in
-- MoveJobs, all but the id is hidden from the planner, and as in EnqueueJobs
-- the caller says what is not the same for all jobs.
WITH step AS (
    SELECT unnest(@ids::text[]) AS id,
           unnest(@team_ids::text[]) AS team_id,
           unnest(@project_ids::text[]) AS project_id,
           unnest(@versions::int[]) AS version,
           unnest(@began_ats::timestamptz[]) AS began_at
), moved AS (
    UPDATE observation_generation_jobs j SET
        status = 'completed',
        version = j.version + 2,
        attempts = j.attempts + 1,
        last_error = NULL,
        next_attempt_at = NULL,
        completed_at = GREATEST(statement_timestamp(), s.began_at),
        updated_at = GREATEST(statement_timestamp(), s.began_at)
    FROM step s
    WHERE j.id = s.id AND j.id = ANY(@ids::text[])
      AND CASE WHEN j.version = s.version AND j.project_id = s.project_id AND j.team_id = s.team_id THEN true END
    RETURNING j.id, j.team_id, j.project_id, j.job_type, j.version, j.ask, j.attempts, j.request_id, s.began_at, j.updated_at
), noted AS (
    INSERT INTO observation_generation_job_events (
        job_id, version, team_id, project_id, event_type, status_after, attempt, at, actor, process, build, request_id, schema)
    SELECT m.id, m.version - 1, m.team_id, m.project_id, 'processing', 'processing', m.attempts, m.began_at,
           @actor::text, @worker::text, @build::text, m.request_id, @schema::int
    FROM moved m
    UNION ALL
    SELECT m.id, m.version, m.team_id, m.project_id, 'completed', 'completed', m.attempts, m.updated_at,
           @actor::text, @worker::text, @build::text, m.request_id, @schema::int
    FROM moved m
), told AS (
    SELECT m.team_id, m.project_id, m.job_type, m.updated_at, count(*) AS jobs, string_agg(m.id, ',') AS ids, array_agg(m.began_at) AS began_ats,
           COALESCE(array_agg(m.version) FILTER (WHERE @mixed::bool), ARRAY[min(m.version)]) AS versions,
           COALESCE(array_agg(m.attempts) FILTER (WHERE @mixed::bool), ARRAY[min(m.attempts)]) AS attempts,
           COALESCE(array_agg(m.request_id) FILTER (WHERE @requests::bool), ARRAY[@request_id::text]) AS request_ids
    FROM moved m
    GROUP BY m.team_id, m.project_id, m.job_type, m.updated_at
), gone AS ( -- no join: the outbox is often empty when it is analyzed, and one would compare each with each
    DELETE FROM outbox o
    WHERE o.id = ANY (ARRAY(SELECT m.ask FROM moved m))
      AND CASE WHEN (o.job_id, o.project_id, o.team_id) IN (SELECT m.id, m.project_id, m.team_id FROM moved m) THEN true END
    RETURNING o.*
), fed AS ( -- in this order: no event is told before an earlier one
    INSERT INTO job_feed (team_id, project_id, job_type, event_type, status_after, actor, process, build, schema,
        events, ids, versions, attempts, ats, began_ats, request_ids)
    SELECT g.team_id, g.project_id, g.job_type, 'queued', 'queued', g.actor, g.process, g.build, g.schema,
           count(*), string_agg(g.job_id, ','), array_agg(g.asked), '{0}'::int[], array_agg(g.at), NULL::timestamptz[], array_agg(g.request_id)
    FROM gone g WHERE NOT g.told
    GROUP BY g.team_id, g.project_id, g.job_type, g.actor, g.process, g.build, g.schema
    UNION ALL
    SELECT t.team_id, t.project_id, t.job_type, 'completed', 'completed', @actor::text, @worker::text, @build::text, @schema::int,
           2 * t.jobs, t.ids, t.versions, t.attempts, ARRAY[t.updated_at], t.began_ats, t.request_ids
    FROM told t
)
SELECT t.jobs::int AS stored,
       CASE WHEN (SELECT count(*) FROM moved) < cardinality(@ids::text[]) THEN t.ids ELSE '' END::text AS ids
FROM told t;

-- name: CompleteJob :many
-- CompleteJobs for one, as EnqueueJob is to EnqueueJobs. No row: it is not as
-- it was looked at.
WITH moved AS (
    UPDATE observation_generation_jobs j SET
        status = 'completed',
        version = j.version + 2,
        attempts = j.attempts + 1,
        last_error = NULL,
        next_attempt_at = NULL,
        completed_at = GREATEST(statement_timestamp(), @began_at::timestamptz),
        updated_at = GREATEST(statement_timestamp(), @began_at::timestamptz)
    WHERE j.id = @id::text
      AND CASE WHEN j.version = @version::int AND j.project_id = @project_id::text AND j.team_id = @team_id::text THEN true END
    RETURNING j.job_type, j.version, j.ask, j.attempts, j.request_id, j.updated_at
), noted AS (
    INSERT INTO observation_generation_job_events (
        job_id, version, team_id, project_id, event_type, status_after, attempt, at, actor, process, build, request_id, schema)
    SELECT @id::text, m.version - 1, @team_id::text, @project_id::text, 'processing', 'processing', m.attempts, @began_at::timestamptz,
           @actor::text, @worker::text, @build::text, m.request_id, @schema::int
    FROM moved m
    UNION ALL
    SELECT @id::text, m.version, @team_id::text, @project_id::text, 'completed', 'completed', m.attempts, m.updated_at,
           @actor::text, @worker::text, @build::text, m.request_id, @schema::int
    FROM moved m
), gone AS (
    DELETE FROM outbox o
    WHERE o.id = (SELECT m.ask FROM moved m)
      AND CASE WHEN o.job_id = @id::text AND o.project_id = @project_id::text AND o.team_id = @team_id::text THEN true END
    RETURNING o.*
), fed AS ( -- in this order: no event is told before an earlier one
    INSERT INTO job_feed (team_id, project_id, job_type, event_type, status_after, actor, process, build, schema,
        events, ids, versions, attempts, ats, began_ats, request_ids)
    SELECT g.team_id, g.project_id, g.job_type, 'queued', 'queued', g.actor, g.process, g.build, g.schema,
           1, g.job_id, ARRAY[g.asked], '{0}'::int[], ARRAY[g.at], NULL::timestamptz[], ARRAY[g.request_id]
    FROM gone g WHERE NOT g.told
    UNION ALL
    SELECT @team_id::text, @project_id::text, m.job_type, 'completed', 'completed', @actor::text, @worker::text, @build::text, @schema::int,
           2, @id::text, ARRAY[m.version], ARRAY[m.attempts], ARRAY[m.updated_at], ARRAY[@began_at::timestamptz], ARRAY[m.request_id]
    FROM moved m
)
SELECT m.version FROM moved m;

-- name: GetJob :one
SELECT * FROM observation_generation_jobs
WHERE id = @id AND CASE WHEN team_id = @team_id AND project_id = @project_id THEN true END;

-- name: GetJobs :many
SELECT j.* FROM observation_generation_jobs j
JOIN (SELECT unnest(@ids::text[]) AS id, unnest(@team_ids::text[]) AS team_id, unnest(@project_ids::text[]) AS project_id) w
  ON j.id = w.id AND j.id = ANY(@ids::text[]) AND CASE WHEN j.team_id = w.team_id AND j.project_id = w.project_id THEN true END;

-- name: FreeJobs :many
-- Those of these jobs that no transaction holds at the moment.
SELECT j.id FROM observation_generation_jobs j
JOIN (SELECT unnest(@ids::text[]) AS id, unnest(@team_ids::text[]) AS team_id, unnest(@project_ids::text[]) AS project_id) w
  ON j.id = w.id AND j.id = ANY(@ids::text[]) AND CASE WHEN j.team_id = w.team_id AND j.project_id = w.project_id THEN true END
FOR UPDATE OF j SKIP LOCKED;

-- name: KnownProjects :many
SELECT DISTINCT p.id, p.team_id FROM projects p
JOIN (SELECT unnest(ARRAY(SELECT unnest(@project_ids::text[]))) AS project_id, unnest(@team_ids::text[]) AS team_id) w
  ON p.id = w.project_id AND p.id = ANY (ARRAY(SELECT unnest(@project_ids::text[]))) AND CASE WHEN p.team_id = w.team_id THEN true END;

-- name: KnownJobs :many
-- Tells an unknown job from one that belongs to somebody else.
SELECT id, team_id, project_id FROM observation_generation_jobs WHERE id = ANY(@ids::text[]);

-- name: JobHistory :many
SELECT * FROM observation_generation_job_events
WHERE job_id = @job_id AND CASE WHEN team_id = @team_id AND project_id = @project_id THEN true END
ORDER BY version;

-- name: ListJobs :many
SELECT * FROM observation_generation_jobs j
WHERE j.team_id = @team_id
  AND (@project_id::text = '' OR j.project_id = @project_id)
  AND (@status::text = '' OR j.status = @status
       OR @status = 'held' AND j.status = 'queued' AND j.next_attempt_at > now() AND EXISTS (
           SELECT FROM observation_generation_job_events e
           WHERE e.job_id = j.id AND e.version = j.asked AND CASE WHEN e.team_id = j.team_id AND e.project_id = j.project_id THEN true END
             AND e.event_type = 'released' AND e.details ? 'held'))
  AND (@source_type::text = '' OR j.source_type = @source_type)
  AND (sqlc.narg('since')::timestamptz IS NULL OR j.created_at >= sqlc.narg('since'))
ORDER BY j.created_at DESC, j.id
LIMIT @max_rows::int OFFSET @skip_rows::int;

-- name: CountJobs :one
SELECT count(*) FROM observation_generation_jobs j
WHERE j.team_id = @team_id
  AND (@project_id::text = '' OR j.project_id = @project_id)
  AND (@status::text = '' OR j.status = @status
       OR @status = 'held' AND j.status = 'queued' AND j.next_attempt_at > now() AND EXISTS (
           SELECT FROM observation_generation_job_events e
           WHERE e.job_id = j.id AND e.version = j.asked AND CASE WHEN e.team_id = j.team_id AND e.project_id = j.project_id THEN true END
             AND e.event_type = 'released' AND e.details ? 'held'))
  AND (@source_type::text = '' OR j.source_type = @source_type)
  AND (sqlc.narg('since')::timestamptz IS NULL OR j.created_at >= sqlc.narg('since'));

-- name: JobsOfAsks :many
-- The jobs that these rows of the outbox ask for.
SELECT j.* FROM outbox o
JOIN observation_generation_jobs j ON j.id = o.job_id AND CASE WHEN j.team_id = o.team_id AND j.project_id = o.project_id THEN true END
WHERE o.id = ANY(@row_ids::bigint[])
  AND j.id = ANY(ARRAY(SELECT a.job_id FROM outbox a WHERE a.id = ANY(@row_ids::bigint[])));

-- name: JobsHeldByLost :many
-- The jobs between two places of the table whose worker has not been seen for
-- the lease, by this server's clock. Nothing indexes who holds a job, so the
-- table is read from its beginning to its end, a part at a time.
SELECT j.* FROM observation_generation_jobs j
WHERE j.ctid >= CAST(@from_place::text AS tid) AND j.ctid < CAST(@to_place::text AS tid)
  AND j.locked_by IS NOT NULL AND NOT EXISTS (
    SELECT FROM workers w
    WHERE w.id = j.locked_by AND w.seen_at > now() - interval '1 microsecond' * @lease_us::bigint);

-- name: JobPages :one
-- How many pages the table has.
SELECT (pg_relation_size('observation_generation_jobs') / current_setting('block_size')::bigint)::bigint;
