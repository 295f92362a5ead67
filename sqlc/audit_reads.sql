-- Reading back who did what. Used by internal/observe only.

-- name: ListAudit :many
-- The newest first; the cursor is the id of the last row of the page before.
SELECT * FROM audit_log
WHERE team_id = @team_id AND (@project_id::text = '' OR project_id = @project_id::text)
  AND (@action::text = '' OR action = @action::text)
  AND (sqlc.narg('since')::timestamptz IS NULL OR created_at >= sqlc.narg('since'))
  AND id < @before::bigint
ORDER BY id DESC LIMIT @max_rows::int;
