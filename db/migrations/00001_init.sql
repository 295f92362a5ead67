-- +goose Up
-- Everything a tenant owns carries (project_id, team_id) with a composite
-- foreign key, so that no row can sit in one team's project under another
-- team's name. Ids are text and made by the program; they name the tenant in
-- their hash. Between the tables that every event writes, a foreign key has
-- the id alone: while the statistics are cold, the planner checks a longer one
-- by walking the tenant's rows (docs/adr/0009).

CREATE TABLE teams (
    id         text PRIMARY KEY,
    name       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE projects (
    id         text PRIMARY KEY,
    team_id    text NOT NULL REFERENCES teams ON DELETE CASCADE,
    name       text NOT NULL,
    metadata   jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (id, team_id),
    UNIQUE (team_id, name)
);

CREATE TABLE team_members (
    team_id    text NOT NULL REFERENCES teams ON DELETE CASCADE,
    actor_id   text NOT NULL,
    role       text NOT NULL DEFAULT 'member' CHECK (role IN ('owner', 'member')),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (team_id, actor_id)
);

-- A key's secret is never stored, only its SHA-256: it has 256 random bits,
-- so a slow hash would add nothing.
CREATE TABLE api_keys (
    id           text PRIMARY KEY,
    team_id      text NOT NULL REFERENCES teams ON DELETE CASCADE,
    project_id   text,
    actor_id     text NOT NULL,
    label        text NOT NULL DEFAULT '',
    prefix       text NOT NULL DEFAULT '', -- the first characters, to recognise a key by
    key_hash     bytea NOT NULL UNIQUE,
    scopes       text[] NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz,
    FOREIGN KEY (project_id, team_id) REFERENCES projects (id, team_id) ON DELETE CASCADE
);
CREATE INDEX ON api_keys (team_id, created_at);

CREATE TABLE audit_log (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    team_id       text NOT NULL REFERENCES teams ON DELETE CASCADE,
    project_id    text,
    actor_id      text NOT NULL,
    api_key_id    text,
    action        text NOT NULL,
    resource_type text NOT NULL,
    resource_id   text NOT NULL DEFAULT '',
    request_id    text,
    job_id        text,
    details       jsonb NOT NULL DEFAULT '{}',
    created_at    timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (project_id, team_id) REFERENCES projects (id, team_id) ON DELETE CASCADE
);
CREATE INDEX ON audit_log (team_id, project_id, id);

CREATE TABLE server_sessions (
    id                  text NOT NULL,
    team_id             text NOT NULL,
    project_id          text NOT NULL,
    external_session_id text,
    content_session_id  text,
    idempotency_key     text,
    agent_id            text,
    agent_type          text,
    platform_source     text,
    generation_status   text NOT NULL DEFAULT 'idle',
    metadata            jsonb NOT NULL DEFAULT '{}',
    last_message        text, -- the assistant's last message, for the summary
    prompts             text[] NOT NULL DEFAULT '{}', -- what the session was asked, one at each start
    open_batch_job_id   text, -- the job that a burst's next event joins, while that is queued
    started_at          timestamptz NOT NULL DEFAULT now(),
    ended_at            timestamptz,
    last_generated_at   timestamptz,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id),
    UNIQUE (idempotency_key, project_id, team_id), -- the key first: see RestartSession
    FOREIGN KEY (project_id, team_id) REFERENCES projects (id, team_id) ON DELETE CASCADE
);
CREATE INDEX ON server_sessions (team_id, project_id, content_session_id, created_at);

CREATE TABLE agent_events (
    id                text NOT NULL, -- derived from idempotency_key
    team_id           text NOT NULL,
    project_id        text NOT NULL,
    server_session_id text,
    source_adapter    text NOT NULL,
    source_event_id   text,
    idempotency_key   text NOT NULL,
    event_type        text NOT NULL,
    platform_source   text,
    payload           jsonb NOT NULL DEFAULT '{}',
    metadata          jsonb NOT NULL DEFAULT '{}',
    batch_job_id      text, -- the job that a burst's events share
    occurred_at       timestamptz NOT NULL,
    received_at       timestamptz NOT NULL DEFAULT now(),
    created_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id),
    UNIQUE (team_id, project_id, idempotency_key),
    FOREIGN KEY (project_id, team_id) REFERENCES projects (id, team_id) ON DELETE CASCADE,
    FOREIGN KEY (server_session_id) REFERENCES server_sessions ON DELETE CASCADE
);
CREATE INDEX ON agent_events (server_session_id, occurred_at) WHERE server_session_id IS NOT NULL;
CREATE INDEX ON agent_events (batch_job_id) WHERE batch_job_id IS NOT NULL;

-- The job's row is the fold of its events. No index on status, locks or
-- times: they change with every event, and an index on them would make every
-- change rewrite all the row's index entries (fillfactor leaves room for HOT).
CREATE TABLE observation_generation_jobs (
    id                text NOT NULL,
    team_id           text NOT NULL,
    project_id        text NOT NULL,
    job_type          text NOT NULL,
    source_type       text NOT NULL,
    source_id         text NOT NULL,
    agent_event_id    text GENERATED ALWAYS AS
        (CASE WHEN source_type = 'agent_event' THEN source_id END) STORED,
    server_session_id text GENERATED ALWAYS AS
        (CASE WHEN source_type = 'session_summary' THEN source_id ELSE payload ->> 'server_session_id' END) STORED,
    payload           jsonb NOT NULL DEFAULT '{}',
    request_id        text NOT NULL DEFAULT '',
    priority          smallint NOT NULL DEFAULT 0,
    max_attempts      integer NOT NULL DEFAULT 3 CHECK (max_attempts >= 1),
    status            text NOT NULL CHECK (status IN ('queued', 'processing', 'completed', 'failed', 'cancelled')),
    version           integer NOT NULL CHECK (version >= 1),
    asked             integer NOT NULL CHECK (asked BETWEEN 1 AND version),
    attempts          integer NOT NULL DEFAULT 0 CHECK (attempts BETWEEN 0 AND max_attempts),
    next_attempt_at   timestamptz,
    locked_by         text,
    locked_at         timestamptz,
    last_error        text,
    completed_at      timestamptz,
    failed_at         timestamptz,
    cancelled_at      timestamptz,
    created_at        timestamptz NOT NULL,
    updated_at        timestamptz NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (team_id, project_id, source_type, source_id, job_type),
    FOREIGN KEY (project_id, team_id) REFERENCES projects (id, team_id) ON DELETE CASCADE,
    CONSTRAINT job_source CHECK (source_type <> '' AND source_id <> ''),
    CONSTRAINT job_lock CHECK ((status = 'processing') = (locked_by IS NOT NULL) AND (locked_by IS NULL) = (locked_at IS NULL)),
    CONSTRAINT job_end CHECK (
        (status = 'completed') = (completed_at IS NOT NULL) AND
        (status = 'failed') = (failed_at IS NOT NULL) AND
        (status = 'cancelled') = (cancelled_at IS NOT NULL))
) WITH (fillfactor = 70);
CREATE INDEX ON observation_generation_jobs (team_id, project_id, created_at DESC);

-- Append-only: what happened to each job, numbered without gaps.
CREATE TABLE observation_generation_job_events (
    job_id       text NOT NULL,
    version      integer NOT NULL CHECK (version >= 1),
    team_id      text NOT NULL,
    project_id   text NOT NULL,
    event_type   text NOT NULL,
    status_after text NOT NULL,
    attempt      integer NOT NULL,
    at           timestamptz NOT NULL,
    next_at      timestamptz,
    actor        text NOT NULL DEFAULT '',
    process      text NOT NULL DEFAULT '',
    build        text NOT NULL DEFAULT '',
    request_id   text NOT NULL DEFAULT '',
    reason       text NOT NULL DEFAULT '',
    details      jsonb,
    schema       smallint NOT NULL,
    PRIMARY KEY (job_id, version),
    FOREIGN KEY (job_id) REFERENCES observation_generation_jobs ON DELETE CASCADE
);

-- +goose StatementBegin
CREATE FUNCTION job_events_are_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'history is append-only: event % of job % cannot be changed', OLD.version, OLD.job_id;
END $$;
-- +goose StatementEnd
CREATE TRIGGER append_only BEFORE UPDATE ON observation_generation_job_events
    FOR EACH ROW EXECUTE FUNCTION job_events_are_append_only();

-- A job is queued exactly while it has a row here, and that row asks for the
-- attempt that the job's asked names. Written only by the statements that
-- move a job, so it needs no foreign key; read in order of id by the relay.
CREATE TABLE outbox (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id     text NOT NULL UNIQUE,
    team_id    text NOT NULL,
    project_id text NOT NULL,
    job_type   text NOT NULL,
    asked      integer NOT NULL,
    priority   smallint NOT NULL DEFAULT 0,
    due_at     timestamptz -- null: at once
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX outbox_due ON outbox (due_at) WHERE due_at IS NOT NULL;

-- The events that the EVENTS stream has not confirmed yet.
CREATE TABLE job_feed (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    team_id    text NOT NULL,
    project_id text NOT NULL,
    job_id     text NOT NULL,
    version    integer NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

-- One row a worker process. A worker that was not seen for the lease holds
-- nothing. Not a tenant's rows.
CREATE TABLE workers (
    id         text PRIMARY KEY,
    name       text NOT NULL,
    build      text NOT NULL DEFAULT '',
    slots      jsonb NOT NULL DEFAULT '{}',
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at    timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE observations (
    id                text NOT NULL,
    team_id           text NOT NULL,
    project_id        text NOT NULL,
    server_session_id text,
    kind              text NOT NULL,
    content           text NOT NULL,
    search_extra      text NOT NULL DEFAULT '', -- paths and concepts, in parts
    content_search    tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('english', coalesce(metadata ->> 'title', '')), 'A') ||
        setweight(to_tsvector('english', content), 'B') ||
        setweight(to_tsvector('english', search_extra), 'C')) STORED,
    generation_key    text,
    metadata          jsonb NOT NULL DEFAULT '{}',
    created_by_job_id text,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id),
    UNIQUE (team_id, project_id, generation_key),
    FOREIGN KEY (project_id, team_id) REFERENCES projects (id, team_id) ON DELETE CASCADE,
    FOREIGN KEY (server_session_id) REFERENCES server_sessions ON DELETE CASCADE
);
CREATE INDEX ON observations USING gin (content_search);
CREATE INDEX ON observations (team_id, project_id, created_at DESC);
CREATE INDEX ON observations (server_session_id, created_at) WHERE server_session_id IS NOT NULL;
CREATE INDEX ON observations (created_by_job_id) WHERE created_by_job_id IS NOT NULL;

-- What an observation rests on.
CREATE TABLE observation_sources (
    id                text NOT NULL,
    team_id           text NOT NULL,
    project_id        text NOT NULL,
    observation_id    text NOT NULL,
    source_type       text NOT NULL,
    source_id         text NOT NULL,
    generation_job_id text,
    metadata          jsonb NOT NULL DEFAULT '{}',
    created_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id),
    UNIQUE (observation_id, source_type, source_id),
    FOREIGN KEY (project_id, team_id) REFERENCES projects (id, team_id) ON DELETE CASCADE,
    FOREIGN KEY (observation_id) REFERENCES observations ON DELETE CASCADE
);
CREATE INDEX ON observation_sources (team_id, project_id, source_type, source_id);

-- +goose Down
-- Forward only: there is no way back that keeps the history.
SELECT 1;
