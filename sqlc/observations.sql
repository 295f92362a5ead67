-- Observations: written by jobs, searched by clients. Used by internal/observe
-- only. No query gives content_search: it is large, and nobody reads it.

-- name: InsertGenerated :many
-- All that jobs leave: their observations, what these rest on, what was used,
-- and for each job one audit row that counts them; that each was created is
-- read from the observation itself. Said again it changes nothing but that
-- row, and a job is completed once. What says the same as another note of its
-- session has that one's id: then it is one more source of it, and the caller
-- has to hold what is not in the answer. Nothing needs a lock: the jobs were
-- moved in this transaction, and nobody takes away their project or their
-- session before them.
WITH want AS (
    SELECT unnest(@ids::text[]) AS id,
           unnest(@team_ids::text[]) AS team_id,
           unnest(@project_ids::text[]) AS project_id,
           unnest(@created_by_job_ids::text[]) AS job_id,
           unnest(@kinds::text[]) AS kind,
           unnest(@contents::text[]) AS content,
           unnest(@searches::text[]) AS search,
           unnest(@generation_keys::text[]) AS generation_key,
           unnest(@metadatas::text[]) AS metadata,
           unnest(@session_ids::text[]) AS session_id
), link AS (
    SELECT unnest(@source_ids::text[]) AS id,
           unnest(@source_observations::text[]) AS observation_id,
           unnest(@source_types::text[]) AS source_type,
           unnest(@source_names::text[]) AS source_id,
           unnest(@source_team_ids::text[]) AS team_id,
           unnest(@source_project_ids::text[]) AS project_id,
           unnest(@source_job_ids::text[]) AS job_id
), known AS MATERIALIZED ( -- once for each project, not for each row
    SELECT p.id, p.team_id FROM projects p WHERE p.id = ANY (ARRAY(SELECT DISTINCT unnest(@job_project_ids::text[] || @project_ids::text[])))
), made AS (
    INSERT INTO observations (
        id, team_id, project_id, server_session_id, kind, content, content_search, generation_key, metadata, created_by_job_id)
    SELECT w.id, w.team_id, w.project_id, NULLIF(w.session_id, ''), w.kind, w.content, w.search::tsvector,
           w.generation_key, w.metadata::jsonb, w.job_id
    FROM want w
    JOIN known k ON k.id = w.project_id AND k.team_id = w.team_id
    ORDER BY w.id
    ON CONFLICT DO NOTHING
    RETURNING id
), linked AS (
    INSERT INTO observation_sources (
        id, team_id, project_id, observation_id, source_type, source_id, generation_job_id)
    SELECT l.id, l.team_id, l.project_id, l.observation_id, l.source_type, l.source_id, l.job_id
    FROM link l
    JOIN known k ON k.id = l.project_id AND k.team_id = l.team_id
    ORDER BY l.observation_id
    ON CONFLICT DO NOTHING
), learnt AS (
    INSERT INTO observation_words (team_id, project_id, lexeme, word)
    SELECT w.team_id, w.project_id, w.lexeme, w.word
    FROM (SELECT unnest(@word_team_ids::text[]) AS team_id, unnest(@word_project_ids::text[]) AS project_id,
                 unnest(@lexemes::text[]) AS lexeme, unnest(@words::text[]) AS word) w
    JOIN known k ON k.id = w.project_id AND k.team_id = w.team_id
    ORDER BY w.project_id COLLATE "C", w.lexeme COLLATE "C" -- two who write the same do not wait for each other in turn
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
    JOIN known k ON k.id = t.project_id AND k.team_id = t.team_id
)
SELECT m.id FROM made m;

-- name: HoldObservations :many
-- Those of these that are there, until the transaction ends.
SELECT o.id FROM observations o
JOIN (SELECT unnest(@ids::text[]) AS id, unnest(@team_ids::text[]) AS team_id, unnest(@project_ids::text[]) AS project_id) w
  ON o.id = w.id AND o.id = ANY(@ids::text[]) AND CASE WHEN o.team_id = w.team_id AND o.project_id = w.project_id THEN true END
ORDER BY o.id
FOR KEY SHARE OF o;

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

-- name: CountObservations :one
-- As far as it matters: counting more costs more. Beyond that it is at most what
-- Postgres believes of all tenants.
SELECT CASE WHEN c.n < @most::int THEN c.n
            ELSE GREATEST(c.n, (SELECT reltuples::bigint FROM pg_catalog.pg_class WHERE oid = 'observations'::regclass)) END::bigint AS n
FROM (SELECT count(*) AS n FROM (SELECT FROM observations WHERE team_id = @team_id AND project_id = @project_id LIMIT @most::int) x) c;

-- name: SearchNewest :many
-- Which of a project's newest observations, or of a session's, have what is
-- looked for, and which of its terms each has, as bits. It looks at max_rows
-- rows, whatever the words are. Those that do not fit the filters are counted, too.
SELECT o.id, o.created_at, (((o.content_search @@ sqlc.arg('t1')::tsquery)::int << 0)
     | ((o.content_search @@ sqlc.arg('t2')::tsquery)::int << 1)
     | ((o.content_search @@ sqlc.arg('t3')::tsquery)::int << 2)
     | ((o.content_search @@ sqlc.arg('t4')::tsquery)::int << 3)
     | CASE WHEN @terms::int < 5 THEN 0 ELSE
       ((o.content_search @@ sqlc.arg('t5')::tsquery)::int << 4)
       | ((o.content_search @@ sqlc.arg('t6')::tsquery)::int << 5)
       | ((o.content_search @@ sqlc.arg('t7')::tsquery)::int << 6)
       | ((o.content_search @@ sqlc.arg('t8')::tsquery)::int << 7) END
     | CASE WHEN @terms::int < 9 THEN 0 ELSE
       ((o.content_search @@ sqlc.arg('t9')::tsquery)::int << 8)
       | ((o.content_search @@ sqlc.arg('t10')::tsquery)::int << 9)
       | ((o.content_search @@ sqlc.arg('t11')::tsquery)::int << 10)
       | ((o.content_search @@ sqlc.arg('t12')::tsquery)::int << 11) END
     | CASE WHEN @terms::int < 13 THEN 0 ELSE
       ((o.content_search @@ sqlc.arg('t13')::tsquery)::int << 12)
       | ((o.content_search @@ sqlc.arg('t14')::tsquery)::int << 13)
       | ((o.content_search @@ sqlc.arg('t15')::tsquery)::int << 14)
       | ((o.content_search @@ sqlc.arg('t16')::tsquery)::int << 15) END)::int AS having,
    (true
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
          AND l.source_type = 'agent_event' AND e.platform_source = @platform::text))))::bool AS fits
FROM (
    (SELECT n.id, n.team_id, n.project_id, n.server_session_id, n.kind, n.content, n.metadata, n.content_search, n.created_at FROM observations n
     WHERE @session_id::text = '' AND n.team_id = @team_id AND n.project_id = @project_id
       AND n.created_at >= @since AND n.created_at <= @until
     ORDER BY n.created_at DESC LIMIT @max_rows::int)
    UNION ALL
    (SELECT n.id, n.team_id, n.project_id, n.server_session_id, n.kind, n.content, n.metadata, n.content_search, n.created_at FROM observations n
     WHERE @session_id::text <> '' AND n.server_session_id = @session_id::text
       AND CASE WHEN n.team_id = @team_id AND n.project_id = @project_id THEN true END
       AND n.created_at >= @since AND n.created_at <= @until
     ORDER BY n.created_at DESC LIMIT @max_rows::int)
) o
WHERE o.content_search @@ @query::tsquery;

-- name: SearchIndex :many
-- The same of all that the index finds, the newest max_rows of them. The tenant
-- is in the query, as a mark that the index knows, and decided by the columns;
-- they stand inside a CASE, so that nothing but the words leads to the rows.
SELECT o.id, o.created_at, (((o.content_search @@ sqlc.arg('t1')::tsquery)::int << 0)
     | ((o.content_search @@ sqlc.arg('t2')::tsquery)::int << 1)
     | ((o.content_search @@ sqlc.arg('t3')::tsquery)::int << 2)
     | ((o.content_search @@ sqlc.arg('t4')::tsquery)::int << 3)
     | CASE WHEN @terms::int < 5 THEN 0 ELSE
       ((o.content_search @@ sqlc.arg('t5')::tsquery)::int << 4)
       | ((o.content_search @@ sqlc.arg('t6')::tsquery)::int << 5)
       | ((o.content_search @@ sqlc.arg('t7')::tsquery)::int << 6)
       | ((o.content_search @@ sqlc.arg('t8')::tsquery)::int << 7) END
     | CASE WHEN @terms::int < 9 THEN 0 ELSE
       ((o.content_search @@ sqlc.arg('t9')::tsquery)::int << 8)
       | ((o.content_search @@ sqlc.arg('t10')::tsquery)::int << 9)
       | ((o.content_search @@ sqlc.arg('t11')::tsquery)::int << 10)
       | ((o.content_search @@ sqlc.arg('t12')::tsquery)::int << 11) END
     | CASE WHEN @terms::int < 13 THEN 0 ELSE
       ((o.content_search @@ sqlc.arg('t13')::tsquery)::int << 12)
       | ((o.content_search @@ sqlc.arg('t14')::tsquery)::int << 13)
       | ((o.content_search @@ sqlc.arg('t15')::tsquery)::int << 14)
       | ((o.content_search @@ sqlc.arg('t16')::tsquery)::int << 15) END)::int AS having
FROM observations o
WHERE o.content_search @@ @query::tsquery
  AND CASE WHEN o.team_id = @team_id AND o.project_id = @project_id THEN true END
  AND CASE WHEN o.created_at >= @since AND o.created_at <= @until THEN true END
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

-- name: GetObservations :many
SELECT id, project_id, team_id, server_session_id, kind, content, metadata, generation_key, created_by_job_id, created_at, updated_at
FROM observations
WHERE id = ANY(@ids::text[]) AND CASE WHEN team_id = @team_id AND project_id = @project_id THEN true END;

-- name: KnownWords :many
-- Which of these words the project has, each looked for by itself: with cold
-- statistics, a list of them was compared with all of the project's words.
SELECT l.lexeme::text FROM unnest(@lexemes::text[]) l(lexeme)
WHERE EXISTS (
    SELECT FROM observation_words w
    WHERE w.team_id = @team_id AND w.project_id = @project_id AND w.lexeme = l.lexeme
    OFFSET 0); -- so that it is not made a join

-- name: WordsThatBegin :many
SELECT lexeme FROM observation_words
WHERE team_id = @team_id AND project_id = @project_id AND lexeme >= @beginning::text AND lexeme < @beginning::text || 'zzzz'
ORDER BY lexeme LIMIT 1;

-- name: SimilarWords :many
SELECT unnest(similar_words(@team_id, @project_id, @mistyped::text, @max_rows::int))::text AS word;

-- name: PageObservations :many
-- A page of a project in the order of ids, or the one observation named.
SELECT id, kind, content, metadata, created_by_job_id, edited_at, updated_at FROM observations
WHERE team_id = @team_id AND project_id = @project_id AND id > @after::text
  AND (@id::text = '' OR id = @id::text)
ORDER BY id LIMIT @max_rows::int;

-- name: RenderObservations :many
-- Only those that differ, and that nobody changed since they were read.
UPDATE observations o SET
    content = w.content, content_search = w.search, metadata = w.metadata::jsonb, updated_at = now()
FROM (
    SELECT unnest(@ids::text[]) AS id,
           unnest(@contents::text[]) AS content,
           unnest(@searches::text[])::tsvector AS search,
           unnest(@metadatas::text[]) AS metadata,
           unnest(@updated_ats::timestamptz[]) AS updated_at
) w
WHERE o.id = w.id AND o.id = ANY(@ids::text[]) AND CASE WHEN o.team_id = @team_id AND o.project_id = @project_id AND o.updated_at = w.updated_at THEN true END
  AND (o.content, o.content_search, o.metadata) IS DISTINCT FROM (w.content, w.search, w.metadata::jsonb)
RETURNING o.id;

-- name: InsertWords :exec
-- In order, so that two who write the same do not wait for each other in turn.
INSERT INTO observation_words (team_id, project_id, lexeme, word)
SELECT w.team_id, w.project_id, w.lexeme, w.word
FROM (SELECT @team_id::text AS team_id, @project_id::text AS project_id, unnest(@lexemes::text[]) AS lexeme, unnest(@words::text[]) AS word) w
JOIN projects p ON p.id = w.project_id AND CASE WHEN p.team_id = w.team_id THEN true END
ORDER BY w.lexeme COLLATE "C"
ON CONFLICT DO NOTHING;

-- name: HoldNotesOfSession :exec
-- For the rest of the transaction: who compares notes with those of a session
-- is alone with it.
SELECT pg_advisory_xact_lock(hashtextextended('notes of ' || @session_id::text, 0));

-- name: NewestNotesOfSession :many
SELECT id, kind, content, metadata FROM observations
WHERE server_session_id = @session_id AND CASE WHEN team_id = @team_id AND project_id = @project_id THEN true END
ORDER BY created_at DESC LIMIT @max_rows::int;
