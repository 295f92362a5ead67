-- What a project has learnt lately. Used by internal/observe only.

-- name: RecentObservations :many
-- The newest first.
SELECT id, project_id, team_id, server_session_id, kind, content, metadata, generation_key, created_by_job_id, created_at, updated_at
FROM observations
WHERE team_id = @team_id AND project_id = @project_id
ORDER BY created_at DESC, id DESC LIMIT @max_rows::int;

-- name: RecentWithSessions :many
-- The same, with what is to be said of the sessions that they are of.
SELECT o.id, o.project_id, o.team_id, o.server_session_id, o.kind, o.content, o.metadata, o.generation_key, o.created_by_job_id, o.created_at, o.updated_at,
       COALESCE(s.platform_source, '') AS platform, s.started_at
FROM (SELECT * FROM observations n
      WHERE n.team_id = @team_id AND n.project_id = @project_id
      ORDER BY n.created_at DESC, n.id DESC LIMIT @max_rows::int) o
LEFT JOIN server_sessions s ON s.id = o.server_session_id AND CASE WHEN s.team_id = o.team_id AND s.project_id = o.project_id THEN true END
WHERE @platform::text = '' OR s.platform_source = @platform::text
ORDER BY o.created_at DESC, o.id DESC;

-- name: InOrderOfIndex :exec
-- For the rest of the transaction: where an index has the rows in the order
-- that is asked for, they are read by it. A planner without statistics believes
-- that a tenant has one row, which is quickly sorted.
SELECT set_config('enable_sort', 'off', true);
