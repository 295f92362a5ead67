-- What the application reads of the job table. It changes jobs through
-- package db only. Used by internal/observe only. Tenants are compared inside a
-- CASE where the id says which row: with cold statistics the planner would walk
-- the rows of the tenant instead.

-- name: FindJob :one
SELECT * FROM observation_generation_jobs
WHERE id = @id AND CASE WHEN team_id = @team_id AND (@project_id::text = '' OR project_id = @project_id::text) THEN true END;

-- name: FindJobs :many
-- That there are few is hidden from the planner, as in TryProjects.
SELECT * FROM observation_generation_jobs
WHERE id = ANY(ARRAY(SELECT unnest(@ids::text[]))) AND CASE WHEN team_id = @team_id AND (@project_id::text = '' OR project_id = @project_id::text) THEN true END;

-- name: LockOpenBatches :many
-- Holds queued jobs where they are until the transaction ends: a worker that
-- is about to begin one waits, and then sees the events that joined it. As in
-- FindJobs, the ids are hidden.
SELECT j.id, (
    SELECT count(*) FROM agent_events e
    WHERE e.batch_job_id = j.id AND e.team_id = j.team_id AND e.project_id = j.project_id
)::int AS size
FROM observation_generation_jobs j
WHERE j.id = ANY(ARRAY(SELECT unnest(@ids::text[]))) AND j.job_type = 'batch' AND j.status = 'queued'
  AND CASE WHEN j.team_id = @team_id AND j.project_id = ANY(@project_ids::text[]) THEN true END
ORDER BY j.id
FOR UPDATE OF j;

-- name: LockQueuedJob :many
-- Holds a job where it is while it is queued: a worker that is about to begin
-- it waits, and then sees what was committed before. No row: it is not queued.
SELECT id FROM observation_generation_jobs
WHERE id = @id AND status = 'queued' AND CASE WHEN team_id = @team_id AND project_id = @project_id THEN true END
FOR UPDATE;

-- name: LastAsker :one
-- Who last asked for the job: a key's id, or another name.
SELECT actor FROM observation_generation_job_events
WHERE job_id = @job_id AND CASE WHEN team_id = @team_id AND project_id = @project_id THEN true END
  AND event_type IN ('queued', 'reclaimed') AND actor NOT IN ('relay', 'worker')
ORDER BY version DESC LIMIT 1;

-- name: LaneAsks :many
-- What waits, over all tenants, and how long the longest has.
WITH c AS (
    SELECT o.job_type,
           count(*) FILTER (WHERE o.due_at IS NULL OR o.due_at <= now()) AS waiting,
           count(*) FILTER (WHERE o.due_at > now()) AS delayed,
           min(o.id) FILTER (WHERE o.due_at IS NULL OR o.due_at <= now()) AS first
    FROM outbox o GROUP BY o.job_type
)
SELECT c.job_type, c.waiting, c.delayed,
       COALESCE((extract(epoch FROM now() - GREATEST(o.due_at, e.at)) * 1000000)::bigint, 0)::bigint AS oldest_us
FROM c
LEFT JOIN outbox o ON o.id = c.first
LEFT JOIN observation_generation_job_events e
  ON e.job_id = o.job_id AND e.version = o.asked AND e.team_id = o.team_id AND e.project_id = o.project_id;

-- name: LaneJobs :many
-- What stands where, over all tenants. Reads the whole table.
SELECT job_type, status, count(*) AS jobs FROM observation_generation_jobs
WHERE status IN ('processing', 'completed', 'failed') GROUP BY job_type, status;
