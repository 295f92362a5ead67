-- API keys. Used by internal/observe only.

-- name: FindKeys :many
-- The good ones among the keys of these hashes, which are those of the secrets
-- that were shown, each under each pepper. stale: that it was used is noted
-- once a minute, so that most requests write nothing. The hashes are hidden
-- from the planner, or it would plan anew for every question, which costs more
-- than the answer.
SELECT k.id, k.team_id, k.project_id, k.actor_id, k.scopes, k.expires_at, k.key_hash,
       (k.last_used_at IS NULL OR k.last_used_at < now() - interval '1 minute')::bool AS stale
FROM api_keys k
WHERE k.key_hash = ANY(ARRAY(SELECT unnest(@key_hashes::bytea[]))) AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now());

-- name: NoteKeys :exec
-- That they were used. Nobody waits for who holds one: then it is noted next
-- time. An empty project is none.
UPDATE api_keys k SET last_used_at = now() FROM (
    SELECT o.id, o.team_id, o.project_id FROM api_keys o JOIN (
        SELECT unnest(@ids::text[]) AS id, unnest(@team_ids::text[]) AS team_id, unnest(@project_ids::text[]) AS project_id
    ) w ON o.id = w.id AND o.team_id = w.team_id AND o.project_id IS NOT DISTINCT FROM NULLIF(w.project_id, '')
    ORDER BY o.id FOR NO KEY UPDATE OF o SKIP LOCKED
) free
WHERE k.id = free.id AND k.team_id = free.team_id AND k.project_id IS NOT DISTINCT FROM free.project_id
  AND (k.last_used_at IS NULL OR k.last_used_at < now() - interval '1 minute');

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
