-- Teams and projects as their keys see them. Used by internal/observe only.

-- name: ProjectsOfTeam :many
SELECT id, team_id, name, created_at FROM projects
WHERE team_id = @team_id AND (@project_id::text = '' OR id = @project_id::text)
ORDER BY created_at, id LIMIT @max_rows::int;

-- name: TeamByID :one
SELECT id, name, created_at FROM teams WHERE id = @team_id;
