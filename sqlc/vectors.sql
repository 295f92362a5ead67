-- Vectors of observations, and who was first with a tool use. Used by
-- internal/observe only. What reads and writes the vectors themselves stands in
-- internal/observe/vectors.go: sqlc knows no pgvector.

-- name: NotInSpace :many
-- The next of a project's newest observations, or the one that is named, and
-- which of them have no vector of the model, or one of an older text, or,
-- where pgvector is not, one that only it could read. Those come with their text.
SELECT o.id, o.created_at, o.updated_at,
       (CASE WHEN m.missing THEN left(o.content, 16000) ELSE '' END)::text AS content, m.missing::bool AS missing
FROM (
    (SELECT n.id, n.team_id, n.project_id, n.content, n.created_at, n.updated_at FROM observations n
     WHERE @id::text = '' AND n.team_id = @team_id AND n.project_id = @project_id
       AND n.created_at <= @before_at::timestamptz AND (n.created_at, n.id) < (@before_at::timestamptz, @before_id::text)
     ORDER BY n.created_at DESC, n.id DESC LIMIT @max_rows::int)
    UNION ALL
    (SELECT n.id, n.team_id, n.project_id, n.content, n.created_at, n.updated_at FROM observations n
     WHERE @id::text <> '' AND n.id = @id::text AND CASE WHEN n.team_id = @team_id AND n.project_id = @project_id THEN true END)
) o
CROSS JOIN LATERAL (SELECT NOT coalesce((
        SELECT v.model = @model AND v.seen_at = o.updated_at AND NOT (@exact::bool AND v.vector IS NULL AND v.dimensions > 0)
        FROM observation_vectors v
        WHERE v.observation_id = o.id AND CASE WHEN v.team_id = o.team_id AND v.project_id = o.project_id THEN true END), false) AS missing OFFSET 0) m
ORDER BY o.created_at DESC, o.id DESC;

-- name: ProjectsNotInSpace :many
-- The projects with an observation among their newest that has been without a
-- vector of the model for a while.
SELECT p.id, p.team_id FROM projects p
WHERE (p.team_id, p.id) > (@after_team::text, @after_project::text)
  AND EXISTS (
    SELECT FROM (SELECT n.id, n.updated_at FROM observations n
                 WHERE n.team_id = p.team_id AND n.project_id = p.id
                 ORDER BY n.created_at DESC LIMIT @looked_at::int) o
    WHERE o.updated_at < now() - interval '1 minute'
      AND NOT coalesce((
        SELECT v.model = @model AND v.seen_at = o.updated_at AND NOT (@exact::bool AND v.vector IS NULL AND v.dimensions > 0)
        FROM observation_vectors v
        WHERE v.observation_id = o.id AND CASE WHEN v.team_id = p.team_id AND v.project_id = p.id THEN true END), false))
ORDER BY p.team_id, p.id LIMIT @max_rows::int;

-- name: SearchFitting :many
-- The newest of a project's, or of a session's, observations that the filters
-- of a search let through.
SELECT o.id FROM observations o
WHERE o.team_id = @team_id AND o.project_id = @project_id
  AND (@session_id::text = '' OR o.server_session_id = @session_id::text)
  AND o.created_at >= @since AND o.created_at <= @until
  AND (@but::text = '' OR o.content_search @@ @but::tsquery)
  AND (cardinality(@phrases::text[]) = 0 OR (o.content || ' ' || o.metadata::text) ~* ALL (@phrases::text[]))
  AND (cardinality(@without::text[]) = 0 OR NOT o.content ~* ANY (@without::text[]))
  AND (cardinality(@kinds::text[]) = 0 OR o.kind = ANY (@kinds::text[]))
  AND (@path::text = '' OR EXISTS (
        SELECT FROM jsonb_path_query(jsonb_build_array(o.metadata -> 'files_modified', o.metadata -> 'files_read'), '$[*][*]') p(name)
        WHERE position('/' || @path::text || '/' IN '/' || (p.name #>> '{}') || '/') > 0))
  AND (@platform::text = '' OR EXISTS (
        SELECT FROM server_sessions s
        WHERE s.id = o.server_session_id AND CASE WHEN s.team_id = o.team_id AND s.project_id = o.project_id THEN true END
          AND s.platform_source = @platform::text)
    OR (o.server_session_id IS NULL AND EXISTS (
        SELECT FROM observation_sources l
        JOIN agent_events e ON e.id = l.source_id AND CASE WHEN e.team_id = l.team_id AND e.project_id = l.project_id THEN true END
        WHERE l.observation_id = o.id AND CASE WHEN l.team_id = o.team_id AND l.project_id = o.project_id THEN true END
          AND l.source_type = 'agent_event' AND e.platform_source = @platform::text)))
ORDER BY o.created_at DESC LIMIT @max_rows::int;

-- name: ClaimToolUses :many
-- Says that a job is about tool uses, as far as no other one said so that has not
-- failed and was not cancelled: a row for each that is its own from now on. In
-- order, so that of two jobs that have several in common one waits for the other.
INSERT INTO tool_uses AS t (session_id, tool_use, team_id, project_id, job_id, event_id)
SELECT u.session_id, u.tool_use, j.team_id, j.project_id, j.id, u.event_id
FROM (SELECT unnest(@session_ids::text[]) AS session_id, unnest(@tool_uses::text[]) AS tool_use, unnest(@event_ids::text[]) AS event_id) u
JOIN observation_generation_jobs j ON j.id = @job_id AND CASE WHEN j.team_id = @team_id AND j.project_id = @project_id THEN true END
ORDER BY u.session_id COLLATE "C", u.tool_use COLLATE "C"
ON CONFLICT (session_id, tool_use) DO UPDATE SET job_id = excluded.job_id, event_id = excluded.event_id
WHERE CASE WHEN t.team_id = excluded.team_id AND t.project_id = excluded.project_id THEN true END
  AND (t.job_id = excluded.job_id OR EXISTS (
    SELECT FROM observation_generation_jobs f
    WHERE f.id = t.job_id AND CASE WHEN f.team_id = t.team_id AND f.project_id = t.project_id THEN f.status IN ('failed', 'cancelled') END))
RETURNING t.tool_use;

-- name: ToolUsesOfOthers :many
-- Which other jobs are about these tool uses, and how they fare.
SELECT t.session_id, t.tool_use, t.job_id, t.event_id, j.status
FROM (SELECT unnest(@session_ids::text[]) AS session_id, unnest(@tool_uses::text[]) AS tool_use) u
JOIN tool_uses t ON t.session_id = u.session_id AND t.tool_use = u.tool_use
 AND CASE WHEN t.team_id = @team_id AND t.project_id = @project_id AND t.job_id <> @job_id THEN true END
JOIN observation_generation_jobs j ON j.id = t.job_id AND CASE WHEN j.team_id = t.team_id AND j.project_id = t.project_id THEN j.status NOT IN ('failed', 'cancelled') END;

-- name: ForgetToolUses :exec
DELETE FROM tool_uses t
WHERE CASE WHEN t.team_id = @team_id AND t.project_id = @project_id THEN true END AND (t.session_id, t.tool_use) IN (
    SELECT u.session_id, u.tool_use FROM tool_uses u
    WHERE u.job_id = @job_id AND CASE WHEN u.team_id = @team_id AND u.project_id = @project_id THEN true END
    ORDER BY u.session_id, u.tool_use COLLATE "C"
    FOR UPDATE);

-- name: ObservationIDsOfEvents :many
SELECT s.source_id, s.observation_id FROM observation_sources s
WHERE s.team_id = @team_id AND s.project_id = @project_id AND s.source_type = 'agent_event' AND s.source_id = ANY(@event_ids::text[])
ORDER BY s.source_id, s.observation_id;
