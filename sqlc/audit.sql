-- Who did what. Used by internal/observe only, always in the transaction of
-- what it tells of.

-- name: InsertAudit :execrows
-- No row: the project, or the team, is not there any more. It is held until
-- the transaction ends, as a foreign key would do it.
WITH want AS (
    SELECT @team_id::text AS team_id, sqlc.narg('project_id')::text AS project_id
), home AS MATERIALIZED (
    SELECT p.id FROM want w JOIN projects p ON p.id = w.project_id AND CASE WHEN p.team_id = w.team_id THEN true END FOR KEY SHARE OF p
), owner AS MATERIALIZED (
    SELECT t.id FROM want w JOIN teams t ON t.id = w.team_id WHERE w.project_id IS NULL FOR KEY SHARE OF t
)
INSERT INTO audit_log (team_id, project_id, actor_id, api_key_id, action, resource_type, resource_id, request_id, job_id, details)
SELECT w.team_id, w.project_id, @actor_id, sqlc.narg('api_key_id'), @action, @resource_type, @resource_id,
       sqlc.narg('request_id'), sqlc.narg('job_id'), @details
FROM want w WHERE EXISTS (SELECT FROM home) OR EXISTS (SELECT FROM owner);

-- name: InsertAudits :exec
-- For a transaction that holds the projects. An empty text is none, where
-- there may be none.
INSERT INTO audit_log (team_id, project_id, actor_id, api_key_id, action, resource_type, resource_id, request_id, job_id, details)
SELECT w.team_id, NULLIF(w.project_id, ''), w.actor_id, NULLIF(w.api_key_id, ''), w.action, w.resource_type, w.resource_id,
       NULLIF(w.request_id, ''), NULLIF(w.job_id, ''), w.details::jsonb
FROM (
    SELECT unnest(@team_ids::text[]) AS team_id, unnest(@project_ids::text[]) AS project_id, unnest(@actor_ids::text[]) AS actor_id,
           unnest(@api_key_ids::text[]) AS api_key_id, unnest(@actions::text[]) AS action,
           unnest(@resource_types::text[]) AS resource_type, unnest(@resource_ids::text[]) AS resource_id,
           unnest(@request_ids::text[]) AS request_id, unnest(@job_ids::text[]) AS job_id, unnest(@details::text[]) AS details
) w;
