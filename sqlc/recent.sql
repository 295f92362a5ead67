-- What a project has learnt lately. Used by internal/observe only.

-- name: RecentObservations :many
-- The newest first.
SELECT id, project_id, team_id, server_session_id, kind, content, metadata, generation_key, created_by_job_id, created_at, updated_at
FROM observations
WHERE team_id = @team_id AND project_id = @project_id
ORDER BY created_at DESC, id DESC LIMIT @max_rows::int;
