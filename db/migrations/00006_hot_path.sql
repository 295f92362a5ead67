-- +goose Up
-- What every job pays (docs/adr/0019). A foreign key is checked row by row:
-- for the history that was three times a job, and the statement that appends
-- an event has just written the job's row. What the keys did at a deletion,
-- one statement does now. That a job's project is there, EnqueueJobs sees to,
-- once for each project and not for each job.
ALTER TABLE observation_generation_job_events DROP CONSTRAINT observation_generation_job_events_job_id_fkey;
ALTER TABLE observation_generation_jobs DROP CONSTRAINT observation_generation_jobs_project_id_team_id_fkey;

-- The array makes it an index scan however little the planner knows.
-- +goose StatementBegin
CREATE FUNCTION delete_histories() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM observation_generation_job_events WHERE job_id = ANY (ARRAY(SELECT id FROM gone));
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER with_history AFTER DELETE ON observation_generation_jobs
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION delete_histories();

-- +goose StatementBegin
CREATE FUNCTION delete_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT id, team_id FROM gone LOOP
        DELETE FROM observation_generation_jobs WHERE team_id = one.team_id AND project_id = one.id;
    END LOOP;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER with_jobs AFTER DELETE ON projects
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION delete_jobs();

-- The feed has a row for each statement and tenant instead of one for each
-- event, with all that followers are told, so that the relay looks nothing up.
CREATE TABLE feed_before AS SELECT * FROM job_feed;
DROP TABLE job_feed;
CREATE TABLE job_feed (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    team_id      text NOT NULL,
    project_id   text NOT NULL,
    job_type     text NOT NULL,
    event_type   text NOT NULL,
    status_after text NOT NULL,
    actor        text NOT NULL,
    process      text NOT NULL,
    build        text NOT NULL,
    schema       smallint NOT NULL,
    -- One element for each event, none null: the epoch is no time at all.
    job_ids      text[] NOT NULL,
    versions     integer[] NOT NULL,
    attempts     integer[] NOT NULL,
    ats          timestamptz[] NOT NULL,
    next_ats     timestamptz[] NOT NULL,
    request_ids  text[] NOT NULL,
    reasons      text[] NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
-- It lives for milliseconds: not worth compressing.
ALTER TABLE job_feed ALTER job_ids SET STORAGE EXTERNAL, ALTER versions SET STORAGE EXTERNAL, ALTER attempts SET STORAGE EXTERNAL,
    ALTER ats SET STORAGE EXTERNAL, ALTER next_ats SET STORAGE EXTERNAL, ALTER request_ids SET STORAGE EXTERNAL,
    ALTER reasons SET STORAGE EXTERNAL;
INSERT INTO job_feed (team_id, project_id, job_type, event_type, status_after, actor, process, build, schema,
    job_ids, versions, attempts, ats, next_ats, request_ids, reasons)
SELECT e.team_id, e.project_id, j.job_type, e.event_type, e.status_after, e.actor, e.process, e.build, e.schema,
    ARRAY[e.job_id], ARRAY[e.version], ARRAY[e.attempt], ARRAY[e.at], ARRAY[COALESCE(e.next_at, 'epoch')], ARRAY[e.request_id], ARRAY[e.reason]
FROM feed_before f
JOIN observation_generation_job_events e ON e.job_id = f.job_id AND e.version = f.version
JOIN observation_generation_jobs j ON j.id = f.job_id
ORDER BY f.id;
DROP TABLE feed_before;

-- Nobody asked for them, and every job computed and kept them.
ALTER TABLE observation_generation_jobs DROP COLUMN agent_event_id, DROP COLUMN server_session_id;

-- Ids are compared byte by byte, whatever language the database speaks: a job
-- is a dozen descents into indexes on them.
-- +goose StatementBegin
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT c.table_name, string_agg(format('ALTER COLUMN %I TYPE text COLLATE "C"', c.column_name), ', ') AS changes
        FROM information_schema.columns c
        WHERE c.table_schema = current_schema() AND c.data_type = 'text'
          AND c.table_name IN ('teams', 'projects', 'api_keys', 'audit_log', 'server_sessions', 'agent_events', 'observation_generation_jobs',
              'observation_generation_job_events', 'outbox', 'job_feed', 'workers', 'observations', 'observation_sources')
          AND (c.column_name IN ('id', 'idempotency_key', 'generation_key', 'event_type', 'job_type', 'source_type', 'locked_by')
              OR c.column_name LIKE '%\_id')
        GROUP BY c.table_name
    LOOP
        EXECUTE format('ALTER TABLE %I %s', one.table_name, one.changes);
    END LOOP;
END $$;
-- +goose StatementEnd

-- +goose Down
-- Forward only: there is no way back that keeps the history.
SELECT 1;
