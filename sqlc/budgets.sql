-- What teams may spend, and whose jobs wait because they have. A job is held
-- when the event that asks for it is a release with `held` in its details.
-- Used by internal/observe only.

-- name: TeamBudget :many
-- The team's own word; no row: it has none.
SELECT * FROM team_budgets WHERE team_id = @team_id;

-- name: SetTeamBudget :exec
INSERT INTO team_budgets AS b (team_id, tokens, cost, updated_by)
VALUES (@team_id, sqlc.narg('tokens'), sqlc.narg('cost'), @updated_by)
ON CONFLICT (team_id) DO UPDATE SET tokens = excluded.tokens, cost = excluded.cost, updated_at = now(), updated_by = excluded.updated_by;

-- name: Spent :one
-- What a team has used since the month began, and when the next one does.
SELECT coalesce(sum(u.quantity) FILTER (WHERE u.kind = 'tokens'), 0)::bigint AS tokens,
       coalesce(sum(u.quantity) FILTER (WHERE u.kind = 'cost'), 0)::bigint AS cost,
       ((extract(epoch FROM (date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC' - now())) * 1000000)::bigint AS month_ends_us
FROM (
    SELECT e.kind, e.quantity FROM usage_events e
    WHERE e.team_id = @team_id AND e.created_at >= date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
    UNION ALL
    SELECT c.kind, c.quantity FROM usage_counters c
    WHERE c.team_id = @team_id AND c.month = date_trunc('month', now() AT TIME ZONE 'UTC')::date
) u;

-- name: NoteHold :exec
INSERT INTO team_holds AS h (team_id) VALUES (@team_id)
ON CONFLICT (team_id) DO UPDATE SET held_at = now() WHERE h.held_at < now() - interval '5 seconds';

-- name: Holds :many
-- The teams that jobs were held for, and whether the last one was so long ago
-- that no release of it can still be on its way.
SELECT team_id, (held_at < now() - interval '10 minutes')::bool AS old FROM team_holds ORDER BY held_at LIMIT 1000;

-- name: DropHold :execrows
DELETE FROM team_holds WHERE team_id = @team_id AND held_at < now() - interval '10 minutes';

-- name: HeldJobs :many
-- Some of a team's jobs that are held, over all its projects.
SELECT j.* FROM outbox o
JOIN observation_generation_job_events e
  ON e.job_id = o.job_id AND e.version = o.asked AND CASE WHEN e.team_id = o.team_id AND e.project_id = o.project_id THEN true END
JOIN observation_generation_jobs j
  ON j.id = o.job_id AND CASE WHEN j.team_id = o.team_id AND j.project_id = o.project_id THEN true END
WHERE o.team_id = @team_id AND o.due_at > now() AND e.event_type = 'released' AND e.details ? 'held'
ORDER BY o.id LIMIT @max_rows::int;

-- name: WhyHeld :many
-- Those of the jobs that are held, and why. The asking event of each is named.
SELECT e.job_id, e.reason FROM observation_generation_job_events e
JOIN (SELECT unnest(@ids::text[]) AS job_id, unnest(@asked::int[]) AS version) w ON e.job_id = w.job_id AND e.version = w.version
WHERE CASE WHEN e.team_id = @team_id AND (@project_id::text = '' OR e.project_id = @project_id::text) THEN true END
  AND e.event_type = 'released' AND e.details ? 'held';

-- name: LetGo :one
-- Whether somebody lets the job be done whatever the team has used.
SELECT EXISTS (
    SELECT FROM observation_generation_job_events e
    WHERE e.job_id = @job_id AND e.version = @asked::int
      AND CASE WHEN e.team_id = @team_id AND e.project_id = @project_id THEN e.details ? 'despite_budget' END)::bool;

-- name: CrowdedUsage :many
-- The teams whose counts are to be added up.
SELECT team_id FROM usage_events GROUP BY team_id HAVING count(*) >= @crowd::bigint LIMIT 100;
