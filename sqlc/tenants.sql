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

-- name: TryProjects :many
-- The projects of a group of requests, with the policy of those that have one.
-- The free ones are held until the transaction ends, as a foreign key would do
-- it: nobody can lock them any more, and nobody who has locked one, because he
-- empties it, is waited for. Each row also has those of the keys that are good.
-- The lists are hidden from the planner, which takes a short one for cheaper
-- than what it knows nothing of, and would plan anew each time: five times as
-- long as the answer takes.
WITH want AS (
    SELECT unnest(@ids::text[]) AS id, unnest(@team_ids::text[]) AS team_id
), held AS MATERIALIZED (
    SELECT p.id FROM projects p JOIN want w ON p.id = w.id AND p.id = ANY(ARRAY(SELECT unnest(@ids::text[]))) AND CASE WHEN p.team_id = w.team_id THEN true END
    ORDER BY p.id FOR KEY SHARE OF p SKIP LOCKED
)
SELECT p.id AS project_id, p.team_id, CASE WHEN p.metadata ? 'policy' THEN p.metadata ELSE '{}' END::jsonb AS metadata,
       EXISTS (SELECT FROM held h WHERE h.id = p.id) AS free,
       ARRAY(SELECT k.id FROM api_keys k JOIN (SELECT unnest(@key_ids::text[]) AS id, unnest(@key_team_ids::text[]) AS team_id) s
               ON k.id = s.id AND k.id = ANY(ARRAY(SELECT unnest(@key_ids::text[]))) AND CASE WHEN k.team_id = s.team_id THEN true END
           WHERE k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now()))::text[] AS good_keys
FROM projects p JOIN want w ON p.id = w.id AND p.id = ANY(ARRAY(SELECT unnest(@ids::text[]))) AND CASE WHEN p.team_id = w.team_id THEN true END;

-- name: HoldProjects :many
-- As TryProjects, but waits for whoever has locked one.
WITH want AS (
    SELECT unnest(@ids::text[]) AS id, unnest(@team_ids::text[]) AS team_id
), held AS MATERIALIZED (
    SELECT p.id, p.team_id, p.metadata FROM projects p JOIN want w ON p.id = w.id AND p.id = ANY(ARRAY(SELECT unnest(@ids::text[]))) AND CASE WHEN p.team_id = w.team_id THEN true END
    ORDER BY p.id FOR KEY SHARE OF p
)
SELECT h.id AS project_id, h.team_id, CASE WHEN h.metadata ? 'policy' THEN h.metadata ELSE '{}' END::jsonb AS metadata, true AS free,
       ARRAY(SELECT k.id FROM api_keys k JOIN (SELECT unnest(@key_ids::text[]) AS id, unnest(@key_team_ids::text[]) AS team_id) s
               ON k.id = s.id AND k.id = ANY(ARRAY(SELECT unnest(@key_ids::text[]))) AND CASE WHEN k.team_id = s.team_id THEN true END
           WHERE k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now()))::text[] AS good_keys
FROM held h;
