-- What a project has learnt lately. Used by internal/observe only.

-- name: RecentObservations :many
-- The newest first.
SELECT * FROM observations
WHERE team_id = @team_id AND project_id = @project_id
ORDER BY created_at DESC, id DESC LIMIT @max_rows::int;
