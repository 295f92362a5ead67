-- What those who have the database see of all tenants. Used by
-- internal/observe only, and never for a request.

-- name: ListTeams :many
SELECT id, name, created_at FROM teams ORDER BY created_at, id LIMIT @max_rows::int;

-- name: ListProjects :many
SELECT id, team_id, name, created_at FROM projects
WHERE (@team_id::text = '' OR team_id = @team_id)
ORDER BY created_at, id LIMIT @max_rows::int;
