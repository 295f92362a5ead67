-- +goose Up
-- A memory that somebody edited keeps its text when its project is rendered
-- anew.
ALTER TABLE observations ADD COLUMN edited_at timestamptz;

-- +goose Down
-- Forward only: there is no way back that keeps the history.
SELECT 1;
