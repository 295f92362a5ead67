-- +goose Up
-- When the job that was about the event was pruned (docs/adr/0016): it was
-- done, and whoever sends the event again asks for nothing.
ALTER TABLE agent_events ADD COLUMN pruned_at timestamptz;

-- +goose Down
-- Forward only: there is no way back that keeps the history.
SELECT 1;
