-- Sessions of agents. Used by internal/observe only.

-- name: InsertSession :many
-- No row back: a session with that idempotency key is there, and so with that
-- id. No index is named, since the two may be noticed in any order.
INSERT INTO server_sessions (
    id, team_id, project_id, external_session_id, content_session_id, idempotency_key,
    agent_id, agent_type, platform_source, metadata, prompts)
VALUES (
    @id, @team_id, @project_id, sqlc.narg('external_session_id'), sqlc.narg('content_session_id'), sqlc.narg('idempotency_key'),
    sqlc.narg('agent_id'), sqlc.narg('agent_type'), sqlc.narg('platform_source'), @metadata, @prompts::text[])
ON CONFLICT DO NOTHING
RETURNING *;

-- name: RestartSession :one
-- What a second start changes: a new prompt is kept, and without an external
-- id the metadata is the newest. The key says which row, so the tenant is
-- compared inside a CASE: with cold statistics the planner would walk the
-- sessions of the tenant instead.
UPDATE server_sessions SET
    metadata = CASE WHEN @overwrite::bool THEN @metadata::jsonb ELSE metadata END,
    agent_type = CASE WHEN @overwrite::bool THEN COALESCE(sqlc.narg('agent_type')::text, agent_type) ELSE agent_type END,
    prompts = CASE
        WHEN @prompt::text = '' OR prompts[cardinality(prompts)] IS NOT DISTINCT FROM @prompt::text THEN prompts
        ELSE prompts[GREATEST(1, cardinality(prompts) - 98):] || @prompt::text
    END,
    updated_at = CASE WHEN @overwrite::bool THEN now() ELSE updated_at END
WHERE idempotency_key = @idempotency_key AND CASE WHEN team_id = @team_id AND project_id = @project_id THEN true END
RETURNING *;

-- name: GetSession :one
SELECT * FROM server_sessions
WHERE id = @id AND CASE WHEN team_id = @team_id AND (@project_id::text = '' OR project_id = @project_id::text) THEN true END;

-- name: EndSession :one
UPDATE server_sessions SET
    ended_at = COALESCE(ended_at, now()),
    updated_at = CASE WHEN ended_at IS NULL THEN now() ELSE updated_at END
WHERE id = @id AND CASE WHEN team_id = @team_id AND (@project_id::text = '' OR project_id = @project_id::text) THEN true END
RETURNING *;

-- name: SessionGenerated :exec
UPDATE server_sessions SET generation_status = 'completed', last_generated_at = now()
WHERE id = @id AND CASE WHEN team_id = @team_id AND project_id = @project_id THEN true END;

-- name: CountSessionEvents :one
SELECT count(*) FROM agent_events
WHERE server_session_id = @session_id AND CASE WHEN team_id = @team_id AND project_id = @project_id THEN true END;

-- name: AskedForSummary :exec
-- The caller holds the session.
UPDATE server_sessions SET summary_job_id = @job_id, summaries = @summaries, summary_of = @summary_of
WHERE id = @id AND CASE WHEN team_id = @team_id AND project_id = @project_id THEN true END;

-- name: Summarized :execrows
-- No row: a later summary was first. Holds the session.
UPDATE server_sessions SET generation_status = 'completed', last_generated_at = now(), summarized = @nth
WHERE id = @id AND CASE WHEN team_id = @team_id AND project_id = @project_id THEN true END AND summarized <= @nth;

-- name: DropOldSummaries :many
-- The summaries of a session by other jobs. What somebody edited is theirs.
DELETE FROM observations o USING observation_sources s
WHERE s.team_id = @team_id AND s.project_id = @project_id AND s.source_type = 'session_summary' AND s.source_id = @session_id
  AND o.id = s.observation_id AND CASE WHEN o.team_id = s.team_id AND o.project_id = s.project_id THEN true END
  AND o.created_by_job_id IS NOT NULL AND o.created_by_job_id <> @job_id::text AND o.edited_at IS NULL
RETURNING o.id;

-- name: KnownSessions :many
SELECT s.id, s.team_id, s.project_id FROM server_sessions s
JOIN (SELECT unnest(@ids::text[]) AS id, unnest(@team_ids::text[]) AS team_id, unnest(@project_ids::text[]) AS project_id) w
  ON s.id = w.id AND s.id = ANY(@ids::text[]) AND CASE WHEN s.project_id = w.project_id AND s.team_id = w.team_id THEN true END;

-- name: LockSessions :many
-- One writer at a time decides which batch a session's events join. The lock
-- does not hold back those that insert events.
SELECT s.id, s.project_id, s.open_batch_job_id FROM server_sessions s
JOIN (SELECT unnest(@ids::text[]) AS id, unnest(@project_ids::text[]) AS project_id) w
  ON s.id = w.id AND s.id = ANY(@ids::text[]) AND CASE WHEN s.project_id = w.project_id AND s.team_id = @team_id THEN true END
ORDER BY s.id
FOR NO KEY UPDATE OF s;

-- name: OpenBatches :exec
UPDATE server_sessions s SET open_batch_job_id = w.job_id
FROM (SELECT unnest(@ids::text[]) AS id, unnest(@project_ids::text[]) AS project_id, unnest(@job_ids::text[]) AS job_id) w
WHERE s.id = w.id AND s.id = ANY(@ids::text[]) AND CASE WHEN s.project_id = w.project_id AND s.team_id = @team_id THEN true END;
