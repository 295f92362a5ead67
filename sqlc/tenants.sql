-- Teams and their projects. Used by internal/observe only.

-- name: InsertTeam :exec
INSERT INTO teams (id, name) VALUES (@id, @name) ON CONFLICT (id) DO NOTHING;

-- name: HasTeam :one
SELECT EXISTS (SELECT FROM teams WHERE id = @team_id) AS found;

-- name: InsertProject :many
-- No row back: the team has a project of that name.
INSERT INTO projects (id, team_id, name) VALUES (@id, @team_id, @name) ON CONFLICT DO NOTHING RETURNING id;

-- name: ProjectByName :one
SELECT id AS project_id FROM projects WHERE team_id = @team_id AND name = @name;

-- name: ProjectName :one
-- Also tells whether the project is the team's: no row if it is not.
SELECT name, metadata FROM projects WHERE id = @project_id AND team_id = @team_id;

-- name: OwnedProjects :many
SELECT id AS project_id FROM projects WHERE id = ANY(@project_ids::text[]) AND team_id = @team_id;
