-- +goose Up
-- What every event pays on its way in (docs/adr/0032). A foreign key is
-- checked row by row. Who stores events holds each project of the transaction
-- against being emptied or deleted, and reads the sessions under that: it knows
-- that they are there. What the keys did at a deletion, one statement does now.
ALTER TABLE agent_events DROP CONSTRAINT agent_events_project_id_team_id_fkey;
ALTER TABLE agent_events DROP CONSTRAINT agent_events_server_session_id_fkey;

-- +goose StatementBegin
CREATE FUNCTION delete_project_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM agent_events WHERE project_id = ANY (ARRAY(SELECT id FROM gone));
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER with_events AFTER DELETE ON projects
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION delete_project_events();

-- +goose StatementBegin
CREATE FUNCTION delete_session_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM agent_events WHERE server_session_id = ANY (ARRAY(SELECT id FROM gone));
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER with_events AFTER DELETE ON server_sessions
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION delete_session_events();

-- +goose Down
-- Forward only: there is no way back that keeps the history.
SELECT 1;
