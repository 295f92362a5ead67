-- Observations: written by jobs, searched by clients. Used by internal/observe
-- only. No query gives content_search: it is large, and nobody reads it.

-- name: InsertGenerated :many
-- All that jobs leave: their observations, what these rest on, what was used,
-- and for each job one audit row that counts them; that each was created is
-- read from the observation itself. Said again it changes nothing but that
-- row, and a job is completed once.
WITH want AS (
    SELECT unnest(@ids::text[]) AS id,
           unnest(@team_ids::text[]) AS team_id,
           unnest(@project_ids::text[]) AS project_id,
           unnest(@created_by_job_ids::text[]) AS job_id,
           unnest(@kinds::text[]) AS kind,
           unnest(@contents::text[]) AS content,
           unnest(@search_extras::text[]) AS search_extra,
           unnest(@generation_keys::text[]) AS generation_key,
           unnest(@metadatas::text[]) AS metadata,
           unnest(@session_ids::text[]) AS session_id
), link AS (
    SELECT unnest(@source_ids::text[]) AS id,
           unnest(@source_observations::text[]) AS observation_id,
           unnest(@source_types::text[]) AS source_type,
           unnest(@source_names::text[]) AS source_id
), made AS (
    INSERT INTO observations (
        id, team_id, project_id, server_session_id, kind, content, search_extra, generation_key, metadata, created_by_job_id)
    SELECT w.id, w.team_id, w.project_id, NULLIF(w.session_id, ''), w.kind, w.content, w.search_extra,
           w.generation_key, w.metadata::jsonb, w.job_id
    FROM want w
    ORDER BY w.id
    ON CONFLICT DO NOTHING
    RETURNING id
), linked AS (
    INSERT INTO observation_sources (
        id, team_id, project_id, observation_id, source_type, source_id, generation_job_id)
    SELECT l.id, w.team_id, w.project_id, l.observation_id, l.source_type, l.source_id, w.job_id
    FROM link l JOIN want w ON w.id = l.observation_id
    ORDER BY l.id
    ON CONFLICT DO NOTHING
), used AS (
    INSERT INTO usage_events (team_id, project_id, kind, quantity)
    SELECT u.team_id, u.project_id, u.kind, u.quantity
    FROM (SELECT unnest(@usage_team_ids::text[]) AS team_id, unnest(@usage_project_ids::text[]) AS project_id,
                 unnest(@usage_kinds::text[]) AS kind, unnest(@usage_quantities::bigint[]) AS quantity) u
    WHERE u.quantity > 0
), told AS (
    INSERT INTO audit_log (
        team_id, project_id, actor_id, api_key_id, action, resource_type, resource_id, request_id, job_id, details)
    SELECT t.team_id, t.project_id, t.actor_id, NULLIF(t.api_key_id, ''), t.action, 'observation_generation_job', t.job_id,
           NULLIF(t.request_id, ''), t.job_id, t.details::jsonb
    FROM (SELECT unnest(@job_ids::text[]) AS job_id, unnest(@job_team_ids::text[]) AS team_id,
                 unnest(@job_project_ids::text[]) AS project_id, unnest(@actor_ids::text[]) AS actor_id,
                 unnest(@api_key_ids::text[]) AS api_key_id, unnest(@actions::text[]) AS action,
                 unnest(@request_ids::text[]) AS request_id, unnest(@details::text[]) AS details) t
)
SELECT m.id FROM made m;

-- name: HasObservation :one
SELECT id FROM observations
WHERE id = @id AND CASE WHEN team_id = @team_id AND (@project_id::text = '' OR project_id = @project_id::text) THEN true END;

-- name: ObservationsOfEvent :many
SELECT o.id, o.project_id, o.team_id, o.server_session_id, o.kind, o.content,
       o.metadata, o.generation_key, o.created_by_job_id, o.created_at, o.updated_at,
       s.id AS source_row_id, s.source_type, s.source_id, s.generation_job_id, s.created_at AS source_created_at
FROM observation_sources s
JOIN observations o ON o.id = s.observation_id AND CASE WHEN o.team_id = s.team_id AND o.project_id = s.project_id THEN true END
WHERE s.team_id = @team_id AND s.project_id = @project_id AND s.source_type = 'agent_event' AND s.source_id = @event_id
ORDER BY o.created_at, o.id;

-- name: ObservationsOfSession :many
-- The newest ones first.
SELECT kind, content, metadata FROM observations
WHERE server_session_id = @session_id AND CASE WHEN team_id = @team_id AND project_id = @project_id THEN true END
ORDER BY created_at DESC, id DESC LIMIT @max_rows::int;

-- name: SearchObservations :many
-- An observation without a session is of the platform of an event that it rests on.
SELECT o.id, o.project_id, o.team_id, o.server_session_id, o.kind, o.content,
       o.metadata, o.generation_key, o.created_by_job_id, o.created_at, o.updated_at
FROM observations o, websearch_to_tsquery('english', @query::text) q
WHERE o.team_id = @team_id AND o.project_id = @project_id AND o.content_search @@ q
  AND (@platform::text = '' OR EXISTS (
        SELECT FROM server_sessions s
        WHERE s.id = o.server_session_id AND CASE WHEN s.team_id = o.team_id AND s.project_id = o.project_id THEN true END
          AND s.platform_source = @platform::text)
    OR (o.server_session_id IS NULL AND EXISTS (
        SELECT FROM observation_sources l
        JOIN agent_events e ON e.id = l.source_id AND CASE WHEN e.team_id = l.team_id AND e.project_id = l.project_id THEN true END
        WHERE l.observation_id = o.id AND CASE WHEN l.team_id = o.team_id AND l.project_id = o.project_id THEN true END
          AND l.source_type = 'agent_event' AND e.platform_source = @platform::text)))
ORDER BY ts_rank(o.content_search, q) DESC, o.updated_at DESC, o.id
LIMIT @max_rows::int;

-- name: PageObservations :many
-- A page of a project in the order of ids, or the one observation named.
SELECT id, kind, content, search_extra, metadata, created_by_job_id, edited_at, updated_at FROM observations
WHERE team_id = @team_id AND project_id = @project_id AND id > @after::text
  AND (@id::text = '' OR id = @id::text)
ORDER BY id LIMIT @max_rows::int;

-- name: RenderObservations :many
-- Only those that differ, and that nobody changed since they were read.
UPDATE observations o SET
    content = w.content, search_extra = w.search_extra, metadata = w.metadata::jsonb, updated_at = now()
FROM (
    SELECT unnest(@ids::text[]) AS id,
           unnest(@contents::text[]) AS content,
           unnest(@search_extras::text[]) AS search_extra,
           unnest(@metadatas::text[]) AS metadata,
           unnest(@updated_ats::timestamptz[]) AS updated_at
) w
WHERE o.id = w.id AND CASE WHEN o.team_id = @team_id AND o.project_id = @project_id AND o.updated_at = w.updated_at THEN true END
  AND (o.content, o.search_extra, o.metadata) IS DISTINCT FROM (w.content, w.search_extra, w.metadata::jsonb)
RETURNING o.id;
