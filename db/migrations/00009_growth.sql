-- +goose Up
-- What keeps the cost of a job from growing with the tables (docs/adr/0026).

-- When the job that was about the event was pruned (docs/adr/0027): it was
-- done, and whoever sends the event again asks for nothing.
ALTER TABLE agent_events ADD COLUMN pruned_at timestamptz;

-- The jobs of a page are claimed together, so it needs room for all of them
-- once more: with 30 % of it free, a third of all updates went to other pages,
-- and into both indexes.
ALTER TABLE observation_generation_jobs SET (fillfactor = 50);

-- A session is changed with each of its bursts and summaries, in place where
-- its page has room.
ALTER TABLE server_sessions SET (fillfactor = 70);

-- +goose Down
-- Forward only: there is no way back that keeps the history.
SELECT 1;
