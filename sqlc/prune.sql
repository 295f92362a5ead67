-- Taking away finished jobs, a page of one project at a time. Used by
-- internal/observe only, and never for a request.

-- name: PruneJobs :one
-- Takes those of the next page that have ended before, with their histories,
-- and marks their agent events as done. Left where they are: what somebody
-- holds at the moment, and jobs that something else names, which are the last
-- summary of a session and whatever made an observation of other sources than
-- agent events.
WITH page AS (
    SELECT j.id, j.created_at FROM observation_generation_jobs j
    WHERE j.team_id = @team_id AND j.project_id = @project_id
      AND j.created_at < @before AND (j.created_at, j.id) > (@after_at::timestamptz, @after_id::text)
    ORDER BY j.created_at, j.id LIMIT @max_rows::int
), ended AS (
    SELECT j.id, j.source_type, j.source_id FROM page p
    JOIN observation_generation_jobs j ON j.id = p.id
    WHERE CASE WHEN j.team_id = @team_id AND j.project_id = @project_id AND j.status = ANY(@statuses::text[]) AND j.updated_at < @before THEN true END
      AND CASE WHEN j.source_type IN ('agent_event', 'session_batch') THEN true ELSE
            NOT EXISTS (SELECT FROM server_sessions s WHERE s.id = j.source_id AND s.summary_job_id = j.id)
            AND NOT EXISTS (SELECT FROM observations o WHERE o.created_by_job_id = j.id) END
    FOR UPDATE OF j SKIP LOCKED
), history AS (
    SELECT count(*) AS events FROM observation_generation_job_events e
    WHERE e.job_id = ANY (ARRAY(SELECT n.id FROM ended n)) AND CASE WHEN e.team_id = @team_id AND e.project_id = @project_id THEN true END
), gone AS ( -- a trigger takes the histories along
    DELETE FROM observation_generation_jobs j USING ended n
    WHERE j.id = n.id AND CASE WHEN j.team_id = @team_id AND j.project_id = @project_id THEN true END
    RETURNING 1
), marked AS (
    UPDATE agent_events e SET
        pruned_at = now(),
        payload = CASE WHEN @payloads::bool THEN '{}' ELSE e.payload END,
        metadata = CASE WHEN @payloads::bool THEN '{}' ELSE e.metadata END
    FROM (
        SELECT n.source_id AS id FROM ended n WHERE n.source_type = 'agent_event'
        UNION
        SELECT b.id FROM ended n JOIN agent_events b ON b.batch_job_id = n.id WHERE n.source_type = 'session_batch'
    ) n
    WHERE e.id = n.id AND CASE WHEN e.team_id = @team_id AND e.project_id = @project_id THEN true END
    RETURNING 1
)
SELECT (SELECT count(*) FROM page)::int AS seen,
       (SELECT count(*) FROM gone) AS jobs,
       (SELECT h.events FROM history h) AS events,
       (SELECT count(*) FROM marked) AS agent_events,
       COALESCE((SELECT max(created_at) FROM page), @after_at::timestamptz)::timestamptz AS last_at,
       COALESCE((SELECT id FROM page ORDER BY created_at DESC, id DESC LIMIT 1), @after_id::text)::text AS last_id;

-- name: CountPrunable :one
-- What PruneJobs would take of a project, were nothing of it held.
SELECT count(*) FROM observation_generation_jobs j
WHERE j.team_id = @team_id AND j.project_id = @project_id
  AND j.created_at < @before AND j.updated_at < @before AND j.status = ANY(@statuses::text[])
  AND CASE WHEN j.source_type IN ('agent_event', 'session_batch') THEN true ELSE
        NOT EXISTS (SELECT FROM server_sessions s WHERE s.id = j.source_id AND s.summary_job_id = j.id)
        AND NOT EXISTS (SELECT FROM observations o WHERE o.created_by_job_id = j.id) END;
