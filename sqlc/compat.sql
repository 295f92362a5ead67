-- What the routes of older clients need. Used by internal/observe only.

-- name: KeepLastMessage :exec
-- The assistant's last message, for the summary; the newest one counts.
UPDATE server_sessions SET last_message = @last_message::text, updated_at = now()
WHERE id = @id AND CASE WHEN team_id = @team_id AND project_id = @project_id THEN true END
  AND last_message IS DISTINCT FROM @last_message::text;
