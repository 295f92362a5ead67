-- +goose Up
-- Where observations lie in the space of a model of embeddings (docs/operations.md). Without
-- such a model nothing is written here. Where pgvector is there, a worker adds a column
-- `embedding vector` and writes that instead of `vector` (docs/adr/0034).
CREATE TABLE observation_vectors (
    observation_id text COLLATE "C" PRIMARY KEY REFERENCES observations ON DELETE CASCADE,
    team_id        text COLLATE "C" NOT NULL,
    project_id     text COLLATE "C" NOT NULL,
    model          text NOT NULL,
    dimensions     integer NOT NULL CHECK (dimensions >= 0), -- 0: the model does not take the text
    created_at     timestamptz NOT NULL, -- of the observation
    seen_at        timestamptz NOT NULL, -- its updated_at when its text was read
    made_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    vector         bytea, -- of length 1, a float32 each, little end first
    FOREIGN KEY (project_id, team_id) REFERENCES projects (id, team_id) ON DELETE CASCADE
);
CREATE INDEX ON observation_vectors (team_id, project_id, model, created_at DESC);
-- A search reads many of them: up to 2000 dimensions they stay in the row.
ALTER TABLE observation_vectors ALTER COLUMN vector SET STORAGE EXTERNAL;
ALTER TABLE observation_vectors SET (toast_tuple_target = 8160);

-- Which job was first with a tool use that an agent's hooks may report twice. Written where
-- a model is paid for each answer, so that the second report costs none.
CREATE TABLE tool_uses (
    session_id text COLLATE "C" NOT NULL REFERENCES server_sessions ON DELETE CASCADE,
    tool_use   text NOT NULL, -- a digest of what two reports of it have in common
    team_id    text COLLATE "C" NOT NULL,
    project_id text COLLATE "C" NOT NULL,
    job_id     text COLLATE "C" NOT NULL REFERENCES observation_generation_jobs ON DELETE CASCADE,
    event_id   text COLLATE "C" NOT NULL,
    PRIMARY KEY (session_id, tool_use),
    FOREIGN KEY (project_id, team_id) REFERENCES projects (id, team_id) ON DELETE CASCADE
);
CREATE INDEX ON tool_uses (job_id);

-- +goose Down
-- Forward only: there is no way back that keeps the history.
SELECT 1;
