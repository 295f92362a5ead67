-- +goose Up
-- What storing an observation pays (docs/adr/0031). Six foreign keys were
-- checked row by row for every event, though its transaction has moved a job,
-- and whoever takes a project away takes its jobs before all else. What the keys did at a deletion, one statement does
-- now, and obs check (I9) verifies the rest. Each statement of a trigger sees
-- what was committed while the one before it waited.
ALTER TABLE observations
    DROP CONSTRAINT observations_project_id_team_id_fkey,
    DROP CONSTRAINT observations_server_session_id_fkey;
ALTER TABLE observation_sources
    DROP CONSTRAINT observation_sources_project_id_team_id_fkey,
    DROP CONSTRAINT observation_sources_observation_id_fkey;
ALTER TABLE observation_words DROP CONSTRAINT observation_words_project_id_team_id_fkey;
ALTER TABLE audit_log
    DROP CONSTRAINT audit_log_project_id_team_id_fkey,
    DROP CONSTRAINT audit_log_team_id_fkey;

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION delete_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT id, team_id FROM gone LOOP
        DELETE FROM observation_generation_jobs WHERE team_id = one.team_id AND project_id = one.id;
        DELETE FROM observations WHERE team_id = one.team_id AND project_id = one.id;
        DELETE FROM observation_words WHERE team_id = one.team_id AND project_id = one.id;
        DELETE FROM audit_log WHERE team_id = one.team_id AND project_id = one.id;
    END LOOP;
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION delete_team_audit() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT id FROM gone LOOP
        DELETE FROM audit_log WHERE team_id = one.id;
    END LOOP;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER with_audit AFTER DELETE ON teams
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION delete_team_audit();

-- The arrays make it an index scan however little the planner knows.
-- +goose StatementBegin
CREATE FUNCTION delete_session_observations() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM observations WHERE server_session_id = ANY (ARRAY(SELECT id FROM gone));
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER with_observations AFTER DELETE ON server_sessions
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION delete_session_observations();

-- +goose StatementBegin
CREATE FUNCTION delete_sources() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM observation_sources WHERE observation_id = ANY (ARRAY(SELECT id FROM gone));
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER with_sources AFTER DELETE ON observations
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION delete_sources();

-- What a job stores has an id that is made of its generation key, or of what
-- it says in its session, so the primary key keeps out a second one, and obs
-- check verifies it (I8). Only what clients write is found by the key.
CREATE UNIQUE INDEX observations_memory_key ON observations (team_id, project_id, generation_key) WHERE created_by_job_id IS NULL;
ALTER TABLE observations DROP CONSTRAINT observations_team_id_project_id_generation_key_key;

-- A source is named by what it joins; nothing looks for its id. An event's id
-- says whose it is, so the index needs no tenant and is a third of the size:
-- it is one in no order.
ALTER TABLE observation_sources DROP CONSTRAINT observation_sources_pkey;
ALTER TABLE observation_sources REPLICA IDENTITY USING INDEX observation_sources_observation_id_source_type_source_id_key;
CREATE INDEX ON observation_sources (source_id);
DROP INDEX observation_sources_team_id_project_id_source_type_source_i_idx;

-- An index that grows at its left end has half-empty pages, and splits them
-- twice as often. Read backwards it gives the same.
CREATE INDEX observations_by_time ON observations (team_id, project_id, created_at);
DROP INDEX observations_team_id_project_id_created_at_idx;

-- +goose Down
-- Forward only: there is no way back that keeps the history.
SELECT 1;
