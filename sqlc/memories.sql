-- Observations that clients write, change and take away, and what goes when a
-- project is emptied. Used by internal/observe only.

-- name: InsertMemory :many
-- For a transaction that holds the project. No row back: a memory with that
-- generation key is there.
WITH made AS (
    INSERT INTO observations (id, team_id, project_id, server_session_id, kind, content, content_search, generation_key, metadata)
    SELECT @id, w.team_id, w.project_id, sqlc.narg('session_id'), @kind, @content, @search::tsvector, sqlc.narg('generation_key'), @metadata
    FROM (SELECT @team_id::text AS team_id, @project_id::text AS project_id) w
    JOIN projects p ON p.id = w.project_id AND CASE WHEN p.team_id = w.team_id THEN true END
    ON CONFLICT DO NOTHING
    RETURNING id, project_id, team_id, server_session_id, kind, content, metadata, generation_key, created_by_job_id, created_at, updated_at
), linked AS (
    INSERT INTO observation_sources (id, team_id, project_id, observation_id, source_type, source_id, metadata)
    SELECT @source_row_id, m.team_id, m.project_id, m.id, 'manual', m.id, @source_metadata::jsonb FROM made m
)
SELECT m.id, m.project_id, m.team_id, m.server_session_id, m.kind, m.content, m.metadata, m.generation_key, m.created_by_job_id, m.created_at, m.updated_at
FROM made m;

-- name: GetObservation :one
SELECT id, project_id, team_id, server_session_id, kind, content, metadata, generation_key, created_by_job_id, created_at, updated_at
FROM observations
WHERE id = @id AND CASE WHEN team_id = @team_id AND (@project_id::text = '' OR project_id = @project_id::text) THEN true END;

-- name: MemoryByKey :one
-- Which memory has a generation key, with what was asked for when it was made.
-- The key says which row: with cold statistics the planner walked the tenant's.
SELECT o.id, s.metadata AS source_metadata
FROM observations o
JOIN observation_sources s ON s.observation_id = o.id AND CASE WHEN s.team_id = o.team_id AND s.project_id = o.project_id THEN true END
WHERE o.generation_key = @generation_key AND o.created_by_job_id IS NULL AND CASE WHEN o.team_id = @team_id AND o.project_id = @project_id THEN true END
  AND s.source_type = 'manual';

-- name: EditMemory :one
UPDATE observations SET
    kind = COALESCE(sqlc.narg('kind')::text, kind),
    content = COALESCE(sqlc.narg('content')::text, content),
    metadata = COALESCE(sqlc.narg('metadata')::jsonb, metadata),
    edited_at = clock_timestamp(),
    updated_at = GREATEST(clock_timestamp(), updated_at + interval '1 microsecond')
WHERE id = @id AND CASE WHEN team_id = @team_id AND (@project_id::text = '' OR project_id = @project_id::text) THEN true END
RETURNING id, project_id, team_id, server_session_id, kind, content, metadata, generation_key, created_by_job_id, created_at, updated_at;

-- name: IndexMemory :exec
-- What an observation is found by, after its text has changed.
UPDATE observations SET content_search = @search::tsvector
WHERE id = @id AND CASE WHEN team_id = @team_id AND project_id = @project_id THEN true END;

-- name: DeleteMemory :many
DELETE FROM observations
WHERE id = @id AND CASE WHEN team_id = @team_id AND (@project_id::text = '' OR project_id = @project_id::text) THEN true END
RETURNING id, project_id, kind, created_by_job_id;

-- name: LockProject :one
-- Waits for whoever is writing rows of the project, and keeps others from it:
-- they hold the project's row, or one of its jobs.
SELECT id AS project_id FROM projects WHERE id = @project_id AND team_id = @team_id FOR UPDATE;

-- name: WaitLittle :exec
-- For the rest of the transaction: rather begin again than wait for somebody
-- who waits for us.
SELECT set_config('lock_timeout', '50ms', true);

-- name: LockProjectSessions :exec
SELECT id FROM server_sessions WHERE team_id = @team_id AND project_id = @project_id FOR UPDATE;

-- name: PurgeJobs :execrows
-- With their histories.
DELETE FROM observation_generation_jobs WHERE team_id = @team_id AND project_id = @project_id;

-- name: PurgeOutbox :exec
-- Only after the jobs are gone: until then one that a worker holds may ask again.
DELETE FROM outbox WHERE team_id = @team_id AND project_id = @project_id;

-- name: PurgeFeed :exec
DELETE FROM job_feed WHERE team_id = @team_id AND project_id = @project_id;

-- name: PurgeObservations :execrows
DELETE FROM observations WHERE team_id = @team_id AND project_id = @project_id;

-- name: PurgeWords :exec
DELETE FROM observation_words WHERE team_id = @team_id AND project_id = @project_id;

-- name: PurgeAgentEvents :execrows
DELETE FROM agent_events WHERE team_id = @team_id AND project_id = @project_id;

-- name: PurgeSessions :execrows
DELETE FROM server_sessions WHERE team_id = @team_id AND project_id = @project_id;
