-- What agents did. Used by internal/observe only.

-- name: HashedEvents :one
-- Until when events have names that are nothing but a hash.
SELECT occurred_until FROM hashed_events;

-- name: KnownAgentEvents :many
SELECT e.id FROM agent_events e
JOIN (SELECT unnest(@ids::text[]) AS id, unnest(@team_ids::text[]) AS team_id, unnest(@project_ids::text[]) AS project_id) w
  ON e.id = w.id AND e.id = ANY(@ids::text[]) AND CASE WHEN e.project_id = w.project_id AND e.team_id = w.team_id THEN true END;

-- name: InsertAgentEvents :many
-- Those that were not known, of any tenants, whose projects the transaction
-- holds. In one order for everybody: no deadlocks. What was sent is not given
-- back. An event without a session of ours has the newest one of its content id
-- (empty: none), of the same platform where one was named (empty: none at all).
WITH want AS (
    SELECT unnest(@ids::text[]) AS id,
           unnest(@team_ids::text[]) AS team_id,
           unnest(@project_ids::text[]) AS project_id,
           unnest(@session_ids::text[]) AS session_id,
           unnest(@content_ids::text[]) AS content_id,
           unnest(@any_platform::bool[]) AS any_platform,
           unnest(@source_adapters::text[]) AS source_adapter,
           unnest(@source_event_ids::text[]) AS source_event_id,
           unnest(@idempotency_keys::text[]) AS idempotency_key,
           unnest(@event_types::text[]) AS event_type,
           unnest(@platforms::text[]) AS platform,
           unnest(@payloads::text[]) AS payload,
           unnest(@metadatas::text[]) AS metadata,
           unnest(@occurred_ats::timestamptz[]) AS occurred_at
), known AS MATERIALIZED ( -- once for each project, not for each row
    SELECT p.id, p.team_id FROM projects p WHERE p.id = ANY (ARRAY(SELECT DISTINCT unnest(@project_ids::text[])))
)
INSERT INTO agent_events (
    id, team_id, project_id, server_session_id, source_adapter, source_event_id, idempotency_key,
    event_type, platform_source, payload, metadata, occurred_at)
SELECT w.id, w.team_id, w.project_id,
       CASE WHEN w.content_id = '' THEN NULLIF(w.session_id, '') ELSE (
           SELECT t.id FROM server_sessions t
           WHERE t.team_id = w.team_id AND t.project_id = w.project_id AND t.content_session_id = w.content_id
             AND (w.any_platform OR t.platform_source IS NOT DISTINCT FROM NULLIF(w.platform, ''))
           ORDER BY t.created_at DESC, t.id DESC LIMIT 1) END,
       w.source_adapter, NULLIF(w.source_event_id, ''),
       w.idempotency_key, w.event_type, NULLIF(w.platform, ''), w.payload::jsonb, w.metadata::jsonb, w.occurred_at
FROM want w
JOIN known k ON k.id = w.project_id AND k.team_id = w.team_id
ORDER BY w.id
ON CONFLICT DO NOTHING
RETURNING id, server_session_id, received_at, created_at;

-- name: MergeAgentEvents :exec
-- A known event takes on what is new in the metadata, nothing else.
UPDATE agent_events e SET metadata = e.metadata || w.metadata::jsonb
FROM (
    SELECT unnest(@ids::text[]) AS id, unnest(@team_ids::text[]) AS team_id, unnest(@project_ids::text[]) AS project_id,
           unnest(@metadatas::text[]) AS metadata
) w
WHERE e.id = w.id AND e.id = ANY(@ids::text[]) AND CASE WHEN e.project_id = w.project_id AND e.team_id = w.team_id THEN true END
  AND NOT e.metadata @> w.metadata::jsonb;

-- name: GetAgentEvents :many
SELECT e.* FROM agent_events e
JOIN (SELECT unnest(@ids::text[]) AS id, unnest(@team_ids::text[]) AS team_id, unnest(@project_ids::text[]) AS project_id) w
  ON e.id = w.id AND e.id = ANY(@ids::text[]) AND CASE WHEN e.project_id = w.project_id AND e.team_id = w.team_id THEN true END;

-- name: GetAgentEvent :one
SELECT * FROM agent_events
WHERE id = @id AND CASE WHEN team_id = @team_id AND (@project_id::text = '' OR project_id = @project_id::text) THEN true END;

-- name: JoinBatch :many
-- The events that now belong to the batch; not those that have one.
UPDATE agent_events e SET batch_job_id = w.job_id
FROM (SELECT unnest(@ids::text[]) AS id, unnest(@project_ids::text[]) AS project_id, unnest(@job_ids::text[]) AS job_id) w
WHERE e.id = w.id AND e.id = ANY(@ids::text[]) AND CASE WHEN e.project_id = w.project_id AND e.team_id = @team_id AND e.batch_job_id IS NULL THEN true END
RETURNING e.id;

-- name: EventsOfBatch :many
-- A page of a batch, oldest first.
SELECT * FROM agent_events
WHERE batch_job_id = @job_id AND CASE WHEN team_id = @team_id AND project_id = @project_id THEN true END
  AND (occurred_at, id) > (@after_at::timestamptz, @after_id::text)
ORDER BY occurred_at, id LIMIT @max_rows::int;

-- name: EventsOfSession :many
-- A page of a session, newest first.
SELECT * FROM agent_events
WHERE server_session_id = @session_id AND CASE WHEN team_id = @team_id AND project_id = @project_id THEN true END
  AND (occurred_at, id) < (@before_at::timestamptz, @before_id::text)
ORDER BY occurred_at DESC, id DESC LIMIT @max_rows::int;

-- name: EventsOfAsked :many
-- EventsOfJobs for jobs of which only the names are known: it is asked together
-- with the look at them. What is not found here is asked for there.
WITH asked AS MATERIALIZED (
    SELECT j.source_id, j.team_id, j.project_id
    FROM observation_generation_jobs j
    JOIN (SELECT unnest(@job_ids::text[]) AS id, unnest(@team_ids::text[]) AS team_id, unnest(@project_ids::text[]) AS project_id) w
      ON j.id = w.id AND j.id = ANY(@job_ids::text[])
     AND CASE WHEN j.source_type = @source_type::text AND j.team_id = w.team_id AND j.project_id = w.project_id THEN true END
)
SELECT e.id, e.team_id, e.project_id, e.server_session_id, e.source_adapter, e.source_event_id, e.event_type, e.platform_source,
       e.payload, e.occurred_at
FROM asked a
JOIN agent_events e ON e.id = a.source_id AND e.id = ANY (ARRAY(SELECT b.source_id FROM asked b))
 AND CASE WHEN e.team_id = a.team_id AND e.project_id = a.project_id THEN true END;

-- name: EventOfAsked :many
-- EventsOfAsked for one, as LookAtJob is to LookAtJobs.
SELECT e.id, e.team_id, e.project_id, e.server_session_id, e.source_adapter, e.source_event_id, e.event_type, e.platform_source,
       e.payload, e.occurred_at
FROM agent_events e
WHERE e.id = (SELECT j.source_id FROM observation_generation_jobs j
              WHERE j.id = @job_id::text AND CASE WHEN j.source_type = @source_type::text AND j.team_id = @team_id::text AND j.project_id = @project_id::text THEN true END)
  AND CASE WHEN e.team_id = @team_id::text AND e.project_id = @project_id::text THEN true END;

-- name: EventsOfJobs :many
-- The events that jobs are about, of any tenants: each is found under the
-- tenant of its own job. Only what the handlers need of them.
SELECT e.id, e.team_id, e.project_id, e.server_session_id, e.source_adapter, e.source_event_id, e.event_type, e.platform_source,
       e.payload, e.occurred_at
FROM agent_events e
JOIN (SELECT unnest(@ids::text[]) AS id, unnest(@team_ids::text[]) AS team_id, unnest(@project_ids::text[]) AS project_id) w
  ON e.id = w.id AND e.id = ANY(@ids::text[]) AND CASE WHEN e.team_id = w.team_id AND e.project_id = w.project_id THEN true END;
