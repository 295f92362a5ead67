-- When a project's sessions are asked about. Used by internal/observe only.

-- name: ProjectPolicies :many
-- Those of the projects that have a policy of their own.
SELECT id AS project_id, metadata FROM projects
WHERE id = ANY(@project_ids::text[]) AND CASE WHEN team_id = @team_id THEN metadata->'policy' IS NOT NULL END;

-- name: SetProjectSettings :execrows
-- The named ones are taken away, and those given set.
UPDATE projects SET metadata = (metadata - @names::text[]) || @settings::jsonb
WHERE id = @project_id AND CASE WHEN team_id = @team_id THEN true END;

-- name: EndedSessions :many
-- Those of the sessions that are over.
SELECT s.id, s.project_id FROM server_sessions s
JOIN (SELECT unnest(@ids::text[]) AS id, unnest(@project_ids::text[]) AS project_id) w
  ON s.id = w.id AND s.id = ANY(@ids::text[]) AND CASE WHEN s.project_id = w.project_id AND s.team_id = @team_id THEN s.ended_at IS NOT NULL END;

-- name: LockWaitingBatches :many
-- Holds the batches of a session that wait for their time to come.
SELECT * FROM observation_generation_jobs j
WHERE j.id IN (
    SELECT e.batch_job_id FROM agent_events e
    WHERE e.server_session_id = @session_id AND CASE WHEN e.team_id = @team_id AND e.project_id = @project_id THEN true END
      AND e.batch_job_id IS NOT NULL)
  AND CASE WHEN j.team_id = @team_id AND j.project_id = @project_id THEN true END
  AND j.status = 'queued' AND j.attempts = 0 AND j.next_attempt_at > now()
ORDER BY j.id
FOR UPDATE OF j;
