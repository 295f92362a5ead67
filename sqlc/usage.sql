-- What teams use, and what holds them to their limits. Used by
-- internal/observe only.

-- name: CountRequest :one
-- Counts a request against the key's rate, and, when it is within that and
-- within the team's caps, as used. A limit of 0 is none. The caps are read
-- before and not locked: requests at the same moment may all get in.
WITH quick AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true) -- a count lost in a crash is no harm
), rate AS (
    INSERT INTO rate_limit_counters AS r (api_key_id, window_start, count)
    SELECT @api_key_id::text, date_trunc('minute', now()), 1 FROM quick WHERE @rate_limit::int > 0
    ON CONFLICT (api_key_id) DO UPDATE SET
        count = CASE WHEN r.window_start >= excluded.window_start THEN 1 + LEAST(r.count, @rate_limit::int) ELSE 1 END,
        window_start = GREATEST(r.window_start, excluded.window_start)
    RETURNING r.count, r.window_start
), fresh AS (
    SELECT e.kind, e.quantity FROM usage_events e
    WHERE e.team_id = @team_id::text AND e.created_at >= date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
), used AS (
    SELECT coalesce(sum(u.quantity) FILTER (WHERE u.kind = 'request'), 0)::bigint AS requests,
           coalesce(sum(u.quantity) FILTER (WHERE u.kind = 'tokens'), 0)::bigint AS tokens
    FROM (
        SELECT f.kind, f.quantity FROM fresh f
        UNION ALL
        SELECT c.kind, c.quantity FROM usage_counters c
        WHERE c.team_id = @team_id::text AND c.month = date_trunc('month', now() AT TIME ZONE 'UTC')::date
    ) u
), noted AS (
    INSERT INTO usage_events (team_id, project_id, kind, quantity)
    SELECT @team_id::text, @project_id::text, 'request', 1 FROM quick, used
    WHERE @metering::bool
      AND NOT EXISTS (SELECT FROM rate WHERE rate.count > @rate_limit::int)
      AND (@request_cap::bigint = 0 OR used.requests < @request_cap::bigint)
      AND (@token_cap::bigint = 0 OR used.tokens < @token_cap::bigint)
)
SELECT coalesce((SELECT rate.count FROM rate), 0)::int AS in_window,
       coalesce((SELECT rate.window_start FROM rate), now())::timestamptz AS window_start,
       now()::timestamptz AS at,
       used.requests, used.tokens,
       (SELECT count(*) FROM fresh) AS fresh
FROM used;

-- name: NoteSpending :exec
-- What was paid for, at once and apart from what it is for: it is paid also
-- where nothing comes of it.
WITH quick AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true) -- a count lost in a crash is no harm
)
INSERT INTO usage_events (team_id, project_id, kind, quantity, provider, model)
SELECT @team_id::text, @project_id::text, w.kind, w.quantity, w.provider, w.model
FROM quick, (SELECT unnest(@kinds::text[]) AS kind, unnest(@quantities::bigint[]) AS quantity,
                    unnest(@providers::text[]) AS provider, unnest(@models::text[]) AS model) w
WHERE w.quantity > 0;

-- name: FoldUsage :exec
-- Those that somebody else is at are left to them.
WITH taken AS (
    DELETE FROM usage_events t USING (
        SELECT u.id FROM usage_events u WHERE u.team_id = @team_id ORDER BY u.id LIMIT @max_rows::int FOR UPDATE SKIP LOCKED
    ) w
    WHERE t.id = w.id AND t.team_id = @team_id
    RETURNING t.project_id, t.kind, t.quantity, t.provider, t.model, date_trunc('month', t.created_at AT TIME ZONE 'UTC')::date AS month
), old AS (
    DELETE FROM usage_counters o WHERE o.team_id = @team_id AND o.month < now() - interval '13 months'
)
INSERT INTO usage_counters AS c (team_id, project_id, kind, month, quantity, provider, model)
SELECT @team_id, k.project_id, k.kind, k.month, sum(k.quantity), k.provider, k.model FROM taken k
GROUP BY k.month, k.kind, k.project_id, k.provider, k.model
ORDER BY k.month, k.kind, k.project_id, k.provider, k.model
ON CONFLICT (team_id, month, kind, project_id, provider, model) DO UPDATE SET quantity = c.quantity + excluded.quantity;

-- name: UsageOfMonth :many
-- Of the month, UTC, that a moment is in; of this one where it is null.
WITH m AS MATERIALIZED (
    SELECT date_trunc('month', coalesce(sqlc.narg('at')::timestamptz, now()) AT TIME ZONE 'UTC') AS month
), b AS MATERIALIZED (
    SELECT m.month::date AS month, m.month AT TIME ZONE 'UTC' AS begins, (m.month + interval '1 month') AT TIME ZONE 'UTC' AS ends FROM m
)
SELECT u.project_id, u.provider, u.model, u.kind, sum(u.quantity)::bigint AS quantity, u.begins::timestamptz AS since
FROM (
    SELECT e.project_id, e.provider, e.model, e.kind, e.quantity, b.begins FROM usage_events e, b
    WHERE e.team_id = @team_id AND (@project_id::text = '' OR e.project_id = @project_id::text)
      AND e.created_at >= b.begins AND e.created_at < b.ends
    UNION ALL
    SELECT c.project_id, c.provider, c.model, c.kind, c.quantity, b.begins FROM usage_counters c, b
    WHERE c.team_id = @team_id AND (@project_id::text = '' OR c.project_id = @project_id::text) AND c.month = b.month
) u
GROUP BY u.project_id, u.provider, u.model, u.kind, u.begins ORDER BY u.project_id, u.provider, u.model, u.kind;
