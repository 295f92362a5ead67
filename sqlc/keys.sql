-- API keys. Used by internal/observe only.

-- name: UseKeys :many
-- The good ones among the keys of these hashes, which are those of the secrets
-- that were shown, each under each pepper; and in the same statement a note
-- that they were used, at most once a minute: so most requests write nothing.
-- Nobody waits for who holds a key: it is noted by the next one, or not at all.
WITH good AS (
    SELECT a.* FROM api_keys a
    WHERE a.key_hash = ANY(@key_hashes::bytea[]) AND a.revoked_at IS NULL AND (a.expires_at IS NULL OR a.expires_at > now())
), noted AS (
    UPDATE api_keys k SET last_used_at = now()
    WHERE k.id IN (
        SELECT o.id FROM api_keys o JOIN good g
          ON o.id = g.id AND o.team_id = g.team_id AND o.project_id IS NOT DISTINCT FROM g.project_id
        WHERE g.last_used_at IS NULL OR g.last_used_at < now() - interval '1 minute'
        ORDER BY o.id FOR NO KEY UPDATE OF o SKIP LOCKED)
)
SELECT g.id, g.team_id, g.project_id, g.actor_id, g.scopes, g.expires_at, g.key_hash FROM good g;

-- name: RehashKey :exec
-- Another process may have been first.
UPDATE api_keys SET key_hash = @new_hash, pepper = @pepper
WHERE id = @id AND team_id = @team_id AND project_id IS NOT DISTINCT FROM sqlc.narg('project_id') AND key_hash = @old_hash;

-- name: InsertKey :one
INSERT INTO api_keys (id, team_id, project_id, actor_id, label, prefix, key_hash, pepper, scopes, expires_at)
VALUES (@id, @team_id, sqlc.narg('project_id'), @actor_id, @label, @prefix, @key_hash, @pepper, @scopes, sqlc.narg('expires_at'))
RETURNING *;

-- name: ListKeys :many
SELECT * FROM api_keys
WHERE team_id = @team_id AND (@project_id::text = '' OR project_id = @project_id::text)
ORDER BY created_at DESC, id LIMIT @max_rows::int;

-- name: LockKey :one
SELECT * FROM api_keys
WHERE id = @id AND team_id = @team_id AND (@project_id::text = '' OR project_id = @project_id::text)
FOR NO KEY UPDATE;

-- name: RevokeKey :one
-- The time of the first revocation stays.
UPDATE api_keys SET revoked_at = COALESCE(revoked_at, now())
WHERE id = @id AND team_id = @team_id AND (@project_id::text = '' OR project_id = @project_id::text)
RETURNING *;

-- name: ReplacedKey :exec
UPDATE api_keys SET replaced_by = @replaced_by
WHERE id = @id AND team_id = @team_id AND (@project_id::text = '' OR project_id = @project_id::text);

-- name: KeyRevoked :one
-- Whether a key is no longer trusted with what it asked for. One that expired
-- or was rotated is.
SELECT (revoked_at IS NOT NULL AND replaced_by IS NULL)::bool AS revoked FROM api_keys
WHERE id = @id AND team_id = @team_id AND (project_id IS NULL OR project_id = @project_id::text);
