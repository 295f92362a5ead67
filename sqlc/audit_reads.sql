-- Reading back who did what. Used by internal/observe only.

-- name: ListAudit :many
-- The newest first: what is in the log, the making of jobs, their other steps,
-- and what they have made. Each of these gives its newest rows of each project by an index,
-- so a page costs the same however large the tables are. Place says where a
-- row stands among those of one moment; the last row's moment and place are
-- the cursor. All are cut WITH TIES, and not by place, because an index
-- has the order of moments: with cold statistics the planner would rather read
-- all of a project and sort it. Of an operator's retries and cancels the log tells, not the
-- history: they stay when the project is purged.
WITH project AS (
    SELECT p.id AS project_id FROM projects p
    WHERE p.team_id = @team_id AND (@project_id::text = '' OR p.id = @project_id::text)
), top AS (
    (SELECT lpad(l.id::text, 19, '0') COLLATE "C" AS place, l.created_at AS at, l.id AS log_id, '' AS job_id, 0 AS version, '' AS observation_id
     FROM audit_log l
     WHERE @in_log::bool AND @project_id::text = '' AND l.team_id = @team_id AND l.project_id IS NULL
       AND (@action::text = '' OR l.action = @action::text) AND l.created_at >= @since::timestamptz AND l.created_at <= @before_at::timestamptz
       AND (l.created_at < @before_at::timestamptz OR lpad(l.id::text, 19, '0') COLLATE "C" < @before_place::text)
     ORDER BY l.created_at DESC FETCH FIRST (@max_rows::int) ROWS WITH TIES)
    UNION ALL
    (SELECT x.place, x.created_at, x.id, '', 0, '' FROM project p CROSS JOIN LATERAL (
        SELECT lpad(l.id::text, 19, '0') COLLATE "C" AS place, l.created_at, l.id
        FROM audit_log l
        WHERE @in_log::bool AND l.team_id = @team_id AND l.project_id = p.project_id
          AND (@action::text = '' OR l.action = @action::text) AND l.created_at >= @since::timestamptz AND l.created_at <= @before_at::timestamptz
          AND (l.created_at < @before_at::timestamptz OR lpad(l.id::text, 19, '0') COLLATE "C" < @before_place::text)
        ORDER BY l.created_at DESC FETCH FIRST (@max_rows::int) ROWS WITH TIES) x)
    UNION ALL
    (SELECT x.place, x.at, 0, x.job_id, x.version, '' FROM project p CROSS JOIN unnest(@steps::text[]) AS step (event_type) CROSS JOIN LATERAL (
        SELECT (e.job_id || '.' || lpad(e.version::text, 10, '0')) COLLATE "C" AS place, e.at, e.job_id, e.version
        FROM observation_generation_job_events e
        WHERE e.project_id = p.project_id AND e.event_type = step.event_type AND CASE WHEN e.team_id = @team_id THEN true END
          AND e.event_type <> 'queued' -- as the index says
          AND (e.event_type <> 'failed' OR @action::text = '' OR (e.reason = 'revoked_key') = (@action::text = 'generation_job.revoked_key'))
          AND (e.event_type <> 'reclaimed' OR @action::text = '' OR (e.actor = 'relay') = (@action::text = 'generation_job.stalled'))
          AND e.at >= @since::timestamptz AND e.at <= @before_at::timestamptz
          AND (e.at < @before_at::timestamptz OR (e.job_id || '.' || lpad(e.version::text, 10, '0')) COLLATE "C" < @before_place::text)
        ORDER BY e.at DESC FETCH FIRST (@max_rows::int) ROWS WITH TIES) x)
    UNION ALL
    (SELECT x.place, x.created_at, 0, x.id, 1, '' FROM project p CROSS JOIN LATERAL ( -- the first step of a job is its making
        SELECT (j.id || '.0000000001') COLLATE "C" AS place, j.created_at, j.id
        FROM observation_generation_jobs j
        WHERE 'queued' = ANY(@steps::text[]) AND j.team_id = @team_id AND j.project_id = p.project_id
          AND j.created_at >= @since::timestamptz AND j.created_at <= @before_at::timestamptz
          AND (j.created_at < @before_at::timestamptz OR (j.id || '.0000000001') COLLATE "C" < @before_place::text)
        ORDER BY j.created_at DESC FETCH FIRST (@max_rows::int) ROWS WITH TIES) x)
    UNION ALL
    (SELECT x.place, x.created_at, 0, '', 0, x.id FROM project p CROSS JOIN LATERAL (
        SELECT o.id COLLATE "C" AS place, o.id, o.created_at
        FROM observations o
        WHERE @created::bool AND o.team_id = @team_id AND o.project_id = p.project_id AND o.created_by_job_id IS NOT NULL
          AND o.created_at >= @since::timestamptz AND o.created_at <= @before_at::timestamptz
          AND (o.created_at < @before_at::timestamptz OR o.id COLLATE "C" < @before_place::text)
        ORDER BY o.created_at DESC FETCH FIRST (@max_rows::int) ROWS WITH TIES) x)
    ORDER BY 2 DESC, 1 DESC LIMIT @max_rows::int
)
SELECT t.place::text AS place, t.at::timestamptz AS at, t.log_id::bigint AS log_id, t.version::int AS version,
       COALESCE(l.project_id, e.project_id, o.project_id, '')::text AS project_id,
       COALESCE(l.actor_id, k.actor_id, NULLIF(q.actor, ''), j.payload ->> 'actor_id', '')::text AS actor_id,
       COALESCE(l.api_key_id, k.id, '')::text AS api_key_id,
       COALESCE(l.action, '')::text AS action,
       COALESCE(l.resource_type, '')::text AS resource_type,
       COALESCE(l.resource_id, e.job_id, o.id, '')::text AS resource_id,
       COALESCE(l.request_id, NULLIF(q.request_id, ''), NULLIF(j.request_id, ''), '')::text AS request_id,
       COALESCE(l.job_id, j.id, '')::text AS job_id,
       COALESCE(l.details, '{}')::jsonb AS details,
       COALESCE(e.event_type, '')::text AS event_type,
       COALESCE(e.attempt, 0)::int AS attempt,
       COALESCE(e.actor, '')::text AS step_actor,
       COALESCE(e.process, '')::text AS process,
       COALESCE(e.reason, '')::text AS reason,
       COALESCE(j.job_type, '')::text AS job_type,
       COALESCE(o.kind, '')::text AS kind
FROM top t
LEFT JOIN LATERAL (
    SELECT * FROM audit_log a WHERE a.id = t.log_id AND CASE WHEN a.team_id = @team_id THEN true END LIMIT 1) l ON true
LEFT JOIN LATERAL (
    SELECT * FROM observation_generation_job_events a
    WHERE a.job_id = t.job_id AND a.version = t.version AND CASE WHEN a.team_id = @team_id THEN true END LIMIT 1) e ON true
LEFT JOIN LATERAL (
    SELECT a.id, a.project_id, a.kind, a.created_by_job_id FROM observations a
    WHERE a.id = t.observation_id AND CASE WHEN a.team_id = @team_id THEN true END LIMIT 1) o ON true
LEFT JOIN LATERAL (
    SELECT * FROM observation_generation_jobs a
    WHERE a.id = COALESCE(e.job_id, o.created_by_job_id) AND CASE WHEN a.team_id = @team_id THEN true END LIMIT 1) j ON true
LEFT JOIN LATERAL ( -- who asked for it: the last one up to this step
    SELECT a.actor, a.request_id FROM observation_generation_job_events a
    WHERE a.job_id = j.id AND CASE WHEN a.team_id = @team_id THEN true END
      AND (t.version = 0 OR a.version <= t.version)
      AND a.event_type IN ('queued', 'reclaimed') AND a.actor NOT IN ('relay', 'worker')
    ORDER BY a.version DESC LIMIT 1) q ON true
LEFT JOIN LATERAL (
    SELECT a.id, a.actor_id FROM api_keys a WHERE a.id = q.actor AND CASE WHEN a.team_id = @team_id THEN true END LIMIT 1) k ON true
ORDER BY t.at DESC, t.place DESC;
