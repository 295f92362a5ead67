-- Who did what. Used by internal/observe only, always in the transaction of
-- what it tells of.

-- name: InsertAudit :exec
INSERT INTO audit_log (team_id, project_id, actor_id, api_key_id, action, resource_type, resource_id, request_id, job_id, details)
VALUES (@team_id, sqlc.narg('project_id'), @actor_id, sqlc.narg('api_key_id'), @action, @resource_type, @resource_id,
        sqlc.narg('request_id'), sqlc.narg('job_id'), @details);
