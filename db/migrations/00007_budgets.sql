-- +goose Up
-- What teams use is told by the provider and the model that was paid for it,
-- and by what it cost, in millionths of a US dollar.
ALTER TABLE usage_events
    ADD COLUMN provider text NOT NULL DEFAULT '',
    ADD COLUMN model text NOT NULL DEFAULT '',
    DROP CONSTRAINT usage_events_kind_check,
    ADD CONSTRAINT usage_events_kind_check CHECK (kind IN ('request', 'tokens', 'tokens_out', 'cost', 'observation'));
ALTER TABLE usage_counters
    ADD COLUMN provider text NOT NULL DEFAULT '',
    ADD COLUMN model text NOT NULL DEFAULT '',
    DROP CONSTRAINT usage_counters_pkey,
    ADD PRIMARY KEY (team_id, month, kind, project_id, provider, model);

-- What a team may use in a calendar month, UTC, where it is not the server's
-- word that holds (null). 0 is any amount.
CREATE TABLE team_budgets (
    team_id    text PRIMARY KEY REFERENCES teams ON DELETE CASCADE,
    tokens     bigint CHECK (tokens >= 0),
    cost       bigint CHECK (cost >= 0),
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT ''
);

-- The teams that jobs were held for: whose to let go when there is room again.
CREATE TABLE team_holds (
    team_id text PRIMARY KEY REFERENCES teams ON DELETE CASCADE,
    held_at timestamptz NOT NULL DEFAULT now() -- the last time
);

-- +goose Down
-- Forward only: there is no way back that keeps the history.
SELECT 1;
