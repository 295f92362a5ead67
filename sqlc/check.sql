-- What obs check reads: all tenants, a page of jobs at a time, each page in
-- one snapshot. Used by package db only.

-- name: CheckJobs :many
SELECT * FROM observation_generation_jobs WHERE id > @after::text ORDER BY id LIMIT @max_rows::int;

-- name: CheckHistories :many
SELECT * FROM observation_generation_job_events WHERE job_id = ANY(@job_ids::text[]) ORDER BY job_id, version;

-- name: CheckAsks :many
-- Those that the jobs know of.
SELECT o.* FROM observation_generation_jobs j JOIN outbox o ON o.id = j.ask
WHERE j.id = ANY(@job_ids::text[]) AND o.job_id = j.id ORDER BY o.id;

-- name: CheckLiveWorkers :many
SELECT id FROM workers WHERE seen_at > now() - interval '1 microsecond' * @lease_us::bigint;

-- name: CheckStrayHistory :many
SELECT DISTINCT e.job_id FROM observation_generation_job_events e
LEFT JOIN observation_generation_jobs j ON j.id = e.job_id AND CASE WHEN j.team_id = e.team_id AND j.project_id = e.project_id THEN true END
WHERE j.id IS NULL LIMIT 100;

-- name: CheckStrayAsks :many
-- Those of which no job knows.
SELECT o.id, o.job_id FROM outbox o
LEFT JOIN observation_generation_jobs j ON j.id = o.job_id AND j.ask = o.id AND CASE WHEN j.team_id = o.team_id AND j.project_id = o.project_id THEN true END
WHERE j.id IS NULL LIMIT 100;

-- name: CheckObservationJobs :many
-- Observations whose job is not there, though it was not pruned with their
-- events marked, or not completed, or not in their scope.
SELECT o.id, o.created_by_job_id::text AS job_id, coalesce(j.status, 'missing')::text AS job_status FROM observations o
LEFT JOIN observation_generation_jobs j
  ON j.id = o.created_by_job_id AND CASE WHEN j.team_id = o.team_id AND j.project_id = o.project_id THEN true END
WHERE o.created_by_job_id IS NOT NULL AND (j.id IS NULL OR j.status <> 'completed')
  AND NOT (j.id IS NULL AND EXISTS (
    SELECT FROM observation_sources s
    JOIN agent_events a ON a.id = s.source_id AND CASE WHEN a.team_id = s.team_id AND a.project_id = s.project_id THEN true END
    WHERE s.observation_id = o.id AND CASE WHEN s.team_id = o.team_id AND s.project_id = o.project_id THEN true END
      AND s.source_type = 'agent_event' AND a.pruned_at IS NOT NULL)) LIMIT 100;

-- name: CheckObservationSources :many
-- Generated observations without a source of their own job, or with one of
-- another job that is not completed, nor was pruned. Several jobs may have
-- said the same.
SELECT o.id, count(s.id) AS sources,
       count(s.id) FILTER (WHERE s.generation_job_id IS DISTINCT FROM o.created_by_job_id AND j.status IS DISTINCT FROM 'completed'
           AND NOT (j.id IS NULL AND a.pruned_at IS NOT NULL)) AS strange
FROM observations o
LEFT JOIN observation_sources s ON s.observation_id = o.id AND CASE WHEN s.team_id = o.team_id AND s.project_id = o.project_id THEN true END
LEFT JOIN observation_generation_jobs j
  ON j.id = s.generation_job_id AND CASE WHEN j.team_id = s.team_id AND j.project_id = s.project_id THEN true END
LEFT JOIN agent_events a
  ON a.id = s.source_id AND s.source_type = 'agent_event' AND CASE WHEN a.team_id = s.team_id AND a.project_id = s.project_id THEN true END
WHERE o.created_by_job_id IS NOT NULL
GROUP BY o.id, o.team_id, o.project_id
HAVING count(s.id) FILTER (WHERE s.generation_job_id = o.created_by_job_id) = 0
    OR count(s.id) FILTER (WHERE s.generation_job_id IS DISTINCT FROM o.created_by_job_id AND j.status IS DISTINCT FROM 'completed'
           AND NOT (j.id IS NULL AND a.pruned_at IS NOT NULL)) > 0
LIMIT 100;

-- name: CheckSourceEvents :many
-- Sources that name an agent event which their tenant does not have.
SELECT s.id, s.source_id FROM observation_sources s
LEFT JOIN agent_events a ON a.id = s.source_id AND CASE WHEN a.team_id = s.team_id AND a.project_id = s.project_id THEN true END
WHERE s.source_type = 'agent_event' AND a.id IS NULL LIMIT 100;

-- name: CheckStraySources :many
-- Sources of an observation that their tenant does not have.
SELECT s.id, s.observation_id FROM observation_sources s
LEFT JOIN observations o ON o.id = s.observation_id AND CASE WHEN o.team_id = s.team_id AND o.project_id = s.project_id THEN true END
WHERE o.id IS NULL LIMIT 100;

-- name: CheckStrayObservations :many
-- Observations of a project or a session that their team does not have.
SELECT o.id, o.project_id, o.server_session_id FROM observations o
LEFT JOIN projects p ON p.id = o.project_id AND CASE WHEN p.team_id = o.team_id THEN true END
LEFT JOIN server_sessions s ON s.id = o.server_session_id AND CASE WHEN s.team_id = o.team_id AND s.project_id = o.project_id THEN true END
WHERE p.id IS NULL OR (o.server_session_id IS NOT NULL AND s.id IS NULL) LIMIT 100;

-- name: CheckStrayWords :many
-- Words of a project that their team does not have.
SELECT DISTINCT w.project_id FROM observation_words w
LEFT JOIN projects p ON p.id = w.project_id AND CASE WHEN p.team_id = w.team_id THEN true END
WHERE p.id IS NULL LIMIT 100;

-- name: CheckStrayAudit :many
-- Audit rows of a team or a project that is not there.
SELECT l.id, l.team_id, l.project_id FROM audit_log l
LEFT JOIN teams t ON t.id = l.team_id
LEFT JOIN projects p ON p.id = l.project_id AND CASE WHEN p.team_id = l.team_id THEN true END
WHERE t.id IS NULL OR (l.project_id IS NOT NULL AND p.id IS NULL) LIMIT 100;

-- name: CheckGenerationKeys :many
SELECT generation_key::text AS generation_key, count(*) AS copies FROM observations
WHERE generation_key IS NOT NULL GROUP BY team_id, project_id, generation_key HAVING count(*) > 1 LIMIT 100;

-- name: CheckJobScopes :many
-- Jobs about an agent event or a session that their tenant does not have.
SELECT j.id, j.source_type, j.source_id FROM observation_generation_jobs j
LEFT JOIN agent_events a ON a.id = j.source_id AND CASE WHEN a.team_id = j.team_id AND a.project_id = j.project_id THEN true END
LEFT JOIN server_sessions s ON s.id = j.source_id AND CASE WHEN s.team_id = j.team_id AND s.project_id = j.project_id THEN true END
WHERE (j.source_type = 'agent_event' AND a.id IS NULL) OR (j.source_type = 'session_summary' AND s.id IS NULL) LIMIT 100;

-- name: CheckEventProjects :many
-- Agent events in a project that their team does not have.
SELECT e.id, e.project_id FROM agent_events e
LEFT JOIN projects p ON p.id = e.project_id AND CASE WHEN p.team_id = e.team_id THEN true END
WHERE p.id IS NULL LIMIT 100;

-- name: CheckEventSessions :many
-- Agent events in a session that their tenant does not have.
SELECT e.id, e.server_session_id::text AS session_id FROM agent_events e
LEFT JOIN server_sessions s ON s.id = e.server_session_id AND CASE WHEN s.team_id = e.team_id AND s.project_id = e.project_id THEN true END
WHERE e.server_session_id IS NOT NULL AND s.id IS NULL LIMIT 100;

-- name: CheckAuditScopes :many
-- Audit rows that name a job of another tenant.
SELECT l.id, l.job_id::text AS job_id FROM audit_log l
JOIN observation_generation_jobs j ON j.id = l.job_id
WHERE l.team_id <> j.team_id OR (l.project_id IS NOT NULL AND l.project_id <> j.project_id) LIMIT 100;

-- name: CheckEventKeys :many
SELECT idempotency_key, count(*) AS copies FROM agent_events
GROUP BY team_id, project_id, idempotency_key HAVING count(*) > 1 LIMIT 100;

-- name: CheckJobKeys :many
-- A session has as many summary jobs as were asked for.
SELECT j.source_type, j.source_id, j.job_type, count(*) AS copies FROM observation_generation_jobs j
GROUP BY j.team_id, j.project_id, j.source_type, j.source_id, j.job_type
HAVING count(*) > CASE j.source_type WHEN 'session_summary' THEN GREATEST(1, (SELECT s.summaries FROM server_sessions s
    WHERE s.id = j.source_id AND s.team_id = j.team_id AND s.project_id = j.project_id)) ELSE 1 END
LIMIT 100;

-- name: CheckSummaries :many
-- Sessions with more than one summary that nobody edited.
SELECT s.source_id AS session_id, count(*) AS copies FROM observation_sources s
JOIN observations o ON o.id = s.observation_id AND CASE WHEN o.team_id = s.team_id AND o.project_id = s.project_id THEN true END
WHERE s.source_type = 'session_summary' AND o.edited_at IS NULL
GROUP BY s.team_id, s.project_id, s.source_id HAVING count(*) > 1 LIMIT 100;

-- name: CheckOperatorAudit :many
-- What operators did to jobs and the audit log does not tell.
SELECT e.job_id, e.version, e.event_type FROM observation_generation_job_events e
WHERE ((e.event_type = 'queued' AND e.version > 1) OR e.event_type = 'cancelled')
  AND (SELECT count(*) FROM audit_log l WHERE l.job_id = e.job_id AND l.team_id = e.team_id
         AND l.action = CASE e.event_type WHEN 'queued' THEN 'generation_job.retried_by_operator' ELSE 'generation_job.cancelled_by_operator' END)
    < (SELECT count(*) FROM observation_generation_job_events b WHERE b.job_id = e.job_id AND b.event_type = e.event_type AND (b.version > 1 OR b.event_type = 'cancelled'))
LIMIT 100;

-- name: PrunedBefore :one
-- Jobs that ended before this may have been pruned.
SELECT COALESCE(max((details ->> 'before')::timestamptz), 'epoch')::timestamptz AS before FROM audit_log WHERE action = 'project.prune';
