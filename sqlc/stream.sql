-- What a follower of the feed loads. Used by internal/observe only.

-- name: ObservationsOfJob :many
-- A page of what the job has made, in the order of ids.
SELECT id, project_id, team_id, server_session_id, kind, content, metadata, generation_key, created_by_job_id, created_at, updated_at
FROM observations
WHERE created_by_job_id = @job_id::text AND CASE WHEN team_id = @team_id AND project_id = @project_id THEN true END AND id > @after::text
ORDER BY id LIMIT @max_rows::int;
