-- +goose Up
-- What a team used, by calendar month in UTC. usage_events takes a row for
-- each thing counted, so that those who count do not wait for each other; now
-- and then they are added to usage_counters and deleted. Neither names the
-- project in a foreign key: emptying a project locks its row, and requests
-- are counted meanwhile.

CREATE TABLE usage_events (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    team_id    text NOT NULL,
    project_id text NOT NULL DEFAULT '', -- empty: no one project
    kind       text NOT NULL CHECK (kind IN ('request', 'tokens', 'observation')),
    quantity   bigint NOT NULL CHECK (quantity > 0),
    created_at timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX ON usage_events (team_id);

CREATE TABLE usage_counters (
    team_id    text NOT NULL REFERENCES teams ON DELETE CASCADE,
    project_id text NOT NULL DEFAULT '',
    kind       text NOT NULL,
    month      date NOT NULL,
    quantity   bigint NOT NULL,
    PRIMARY KEY (team_id, month, kind, project_id)
);

-- One row a key, of its latest window: nothing to delete later.
CREATE TABLE rate_limit_counters (
    api_key_id   text PRIMARY KEY REFERENCES api_keys ON DELETE CASCADE,
    window_start timestamptz NOT NULL,
    count        integer NOT NULL
) WITH (fillfactor = 50);

-- +goose Down
-- Forward only: there is no way back that keeps the history.
SELECT 1;
