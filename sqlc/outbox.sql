-- What the relay reads: queued asks of queued jobs, across tenants by design, since
-- dealing fairly between tenants needs them all. Used by package db only.

-- name: AsksAfter :many
-- Each form of asks has a query of its own, so that each has its one plan. All
-- but the id is hidden from the planner: statistics of a moment in which all
-- asks were delayed, or none was there, made it read and sort the whole table.
-- So did a limit near to what it believes to wait: it is a query, to hide it too.
SELECT id, job_id, team_id, project_id, job_type, asked, priority, due_at, told FROM outbox WHERE id > @after::bigint AND CASE WHEN due_at IS NULL THEN true END ORDER BY id LIMIT (SELECT @max_rows::int);

-- name: AsksIn :many
SELECT id, job_id, team_id, project_id, job_type, asked, priority, due_at, told FROM outbox WHERE id = ANY(@row_ids::bigint[]) AND (due_at IS NULL OR due_at <= now()) ORDER BY id;

-- name: AsksDelayed :many
SELECT id, job_id, team_id, project_id, job_type, asked, priority, due_at, told FROM outbox WHERE due_at IS NOT NULL AND due_at <= now() ORDER BY due_at LIMIT (SELECT @max_rows::int);

-- name: AsksOfTenant :many
SELECT id, job_id, team_id, project_id, job_type, asked, priority, due_at, told FROM outbox
WHERE id > @after::bigint
  AND CASE WHEN due_at IS NULL AND job_type = @job_type AND team_id = @team_id AND project_id = @project_id THEN true END
ORDER BY id LIMIT (SELECT @max_rows::int);

-- name: WaitingRows :many
SELECT id FROM outbox WHERE id = ANY(@row_ids::bigint[]);

-- name: TellWaiting :one
-- Of jobs that wait in these rows, what nobody was told of goes into the feed.
-- What somebody is taking away tells it anyhow. Gives the last row looked at.
WITH part AS MATERIALIZED (
    SELECT o.id, o.told FROM outbox o WHERE o.id >= @first::bigint AND o.id <= @last::bigint ORDER BY o.id LIMIT @max_rows::int
), free AS MATERIALIZED (
    SELECT o.id FROM outbox o
    WHERE o.id = ANY (ARRAY(SELECT p.id FROM part p WHERE NOT p.told)) AND CASE WHEN NOT o.told THEN true END
    FOR UPDATE SKIP LOCKED
), told AS (
    UPDATE outbox o SET told = true WHERE o.id = ANY (ARRAY(SELECT f.id FROM free f))
    RETURNING o.*
), fed AS (
    INSERT INTO job_feed (team_id, project_id, job_type, event_type, status_after, actor, process, build, schema,
        events, ids, versions, attempts, ats, next_ats, request_ids, reasons)
    SELECT o.team_id, o.project_id, o.job_type, 'queued', 'queued', o.actor, o.process, o.build, o.schema,
           count(*), string_agg(o.job_id, ','), array_agg(o.asked), '{0}'::int[], array_agg(o.at), '{}'::timestamptz[], array_agg(o.request_id), '{""}'::text[]
    FROM told o
    GROUP BY o.team_id, o.project_id, o.job_type, o.actor, o.process, o.build, o.schema
)
SELECT count(*) AS rows, COALESCE(max(p.id), 0)::bigint AS last FROM part p;

-- name: FreshFeed :many
-- Whole rows, until they have so many events: those after a row, and some
-- before it, all in one snapshot. Running is the oldest transaction that is.
SELECT f.id, f.team_id, f.project_id, f.job_type, f.event_type, f.status_after, f.actor, f.process, f.build, f.schema,
       COALESCE(f.ids, array_to_string(f.job_ids, ','))::text AS ids, f.versions, f.attempts, f.ats, f.began_ats, f.next_ats, f.request_ids, f.reasons,
       f.tells::int AS tells, pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS running
FROM (
    SELECT *, sum(tells) OVER (ORDER BY id) AS total
    FROM (
        SELECT *, COALESCE(events, cardinality(job_ids)) AS tells FROM job_feed WHERE id = ANY(@again::bigint[])
        UNION ALL
        (SELECT *, COALESCE(events, cardinality(job_ids)) AS tells FROM job_feed WHERE id > @after::bigint ORDER BY id LIMIT @max_rows::int)
    ) h
) f
WHERE f.total - f.tells < @max_events::int
ORDER BY f.id;

-- name: ForgetFeed :one
-- Gives the transaction that did so. Without waiting for the disk, which the
-- statement says itself: a transaction around it would be two round trips more.
WITH gone AS (DELETE FROM job_feed WHERE id = ANY(@row_ids::bigint[]))
SELECT pg_current_xact_id()::text::bigint WHERE set_config('synchronous_commit', 'off', true) = 'off';

-- name: WritersOf :many
-- The transactions of this database that have written to a table and may have
-- rows that nobody sees yet.
SELECT DISTINCT l.virtualtransaction::text FROM pg_catalog.pg_locks l
WHERE l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' AND l.granted
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
  AND l.relation = CAST(@name::text AS regclass) AND l.pid IS DISTINCT FROM pg_backend_pid();

-- name: ForgetStrayAsks :one
-- A job that was deleted with its tenant leaves its row here, for there is no
-- foreign key: it would be checked at every step of a job. It may have been
-- made anew since, and then knows another row. Each of these rows costs a look
-- at its job, so they are some at a time. Gives the last row looked at.
WITH part AS MATERIALIZED (
    SELECT o.id, o.job_id FROM outbox o WHERE o.id > @after::bigint ORDER BY o.id LIMIT (SELECT @max_rows::int)
), gone AS (
    DELETE FROM outbox o WHERE o.id = ANY (ARRAY(
        SELECT p.id FROM part p
        WHERE NOT COALESCE((SELECT j.ask = p.id FROM observation_generation_jobs j WHERE j.id = p.job_id), false)))
)
SELECT count(*) AS rows, COALESCE(max(p.id), 0)::bigint AS last FROM part p;

-- name: SeeWorker :exec
INSERT INTO workers (id, name, build, slots) VALUES (@id, @name, @build, @slots)
ON CONFLICT (id) DO UPDATE SET seen_at = now(), slots = excluded.slots;

-- name: LoseWorker :exec
-- It stays until what it may hold was looked for.
UPDATE workers SET seen_at = 'epoch' WHERE id = @id;

-- name: LiveWorkers :many
SELECT * FROM workers WHERE seen_at > now() - interval '1 microsecond' * @lease_us::bigint;

-- name: LostWorkers :many
SELECT id FROM workers WHERE seen_at <= now() - interval '1 microsecond' * @lease_us::bigint;

-- name: ForgetLostWorkers :exec
-- Only those that hold nothing any more.
DELETE FROM workers w
WHERE w.id = ANY(@ids::text[]) AND w.seen_at <= now() - interval '1 microsecond' * @lease_us::bigint;

-- name: TryLead :one
-- A lock of this session, so that it ends with the connection.
SELECT pg_try_advisory_lock(@key::bigint);
