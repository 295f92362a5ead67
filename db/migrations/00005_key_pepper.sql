-- +goose Up
-- Which of the server's secrets key_hash was made with, told by a fingerprint;
-- '' is a plain SHA-256, as keys had before there was a secret.
ALTER TABLE api_keys ADD COLUMN pepper text NOT NULL DEFAULT '';

-- +goose Down
-- Forward only: there is no way back that keeps the history.
SELECT 1;
