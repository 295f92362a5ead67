package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
)

// fail makes jobs fail as a worker does whose provider says no for good.
func (o *office) fail(ids ...events.ID) {
	o.t.Helper()
	worker := events.Holder{ID: "worker", Name: "worker"}
	require.NoError(o.t, o.jobs.Seen(o.t.Context(), worker))
	for _, id := range ids {
		scope, err := o.jobs.Find(o.t.Context(), id)
		require.NoError(o.t, err)
		job, _, err := o.jobs.Get(o.t.Context(), scope, id)
		require.NoError(o.t, err)
		claims, err := o.jobs.Begin(o.t.Context(), worker, []events.Envelope{{Job: id, Kind: job.Kind, Asked: job.Asked, Scope: scope}})
		require.NoError(o.t, err)
		require.NoError(o.t, claims[0].Err)
		errs, err := o.jobs.Settle(o.t.Context(), []events.Step{{Job: claims[0].Job, Event: events.Event{
			Type: events.Failed, Reason: strings.Repeat("the provider refused: ", 20),
		}}}, make([]func(context.Context, pgx.Tx) error, 1))
		require.NoError(o.t, err)
		require.NoError(o.t, errs[0])
	}
}

func TestFailedJobsAreListedAndRetried(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	ids := o.record(6)
	require.Equal(t, "0 failed jobs\n", o.obs("jobs", "failed"))
	o.fail(ids[:4]...)

	list := o.obs("jobs", "failed")
	require.Contains(t, list, "the provider refused")
	require.Contains(t, list, "4 failed jobs\n")
	require.Contains(t, o.obs("jobs", "failed", "--limit", "2"), "2 failed jobs, and there are more")
	for _, text := range []string{list, o.obs("jobs", "list"), o.obs("keys", "list"), o.obs("jobs", "history", string(ids[0]))} {
		for line := range strings.Lines(text) {
			require.LessOrEqual(t, columns(strings.TrimSuffix(line, "\n")), wide, line)
		}
	}
	var body struct {
		Count  int
		More   bool
		Failed []jobBody
	}
	require.NoError(t, json.Unmarshal([]byte(o.obs("jobs", "failed", "--json", "--project", o.project)), &body))
	require.Equal(t, 4, body.Count)
	require.NotNil(t, body.Failed[0].FailedEpoch)

	// It counts when a job failed, not when it was made.
	conn, err := pgx.Connect(t.Context(), o.dsn)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), `UPDATE observation_generation_jobs SET created_at = created_at - interval '3 days' WHERE id = $1`, string(ids[0]))
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `UPDATE observation_generation_jobs SET failed_at = failed_at - interval '2 days' WHERE id = $1`, string(ids[1]))
	require.NoError(t, err)
	require.Contains(t, o.obs("jobs", "failed", "--since", "24h"), "3 failed jobs\n")
	require.Contains(t, o.obs("jobs", "failed", "--since", "24h"), string(ids[0]))

	other := strings.TrimSpace(o.obs("teams", "create", "other"))
	require.Equal(t, "0 jobs are queued again\n", o.obs("jobs", "retry", "--failed", "--team", other))

	began := time.Now()
	require.Equal(t, "3 jobs are queued again\n", o.obs("jobs", "retry", "--failed", "--since", "24h", "--rate", "10"))
	require.GreaterOrEqual(t, time.Since(began), 200*time.Millisecond, "three at ten a second")
	var retried retriedBody
	require.NoError(t, json.Unmarshal([]byte(o.obs("jobs", "retry", "--failed", "--json")), &retried))
	require.Equal(t, []events.ID{ids[1]}, retried.Retried)
	require.Empty(t, retried.Skipped)
	require.Contains(t, o.obs("jobs", "list", "--status", "queued"), "6 of 6 jobs")

	var history []eventBody
	require.NoError(t, json.Unmarshal([]byte(o.obs("jobs", "history", string(ids[1]), "--json")), &history))
	require.Equal(t, "queued", history[len(history)-1].Type)
	require.Zero(t, history[0].AfterMS)
	require.GreaterOrEqual(t, history[len(history)-1].AfterMS, int64(200))
}

func TestRetryIsToldWhatToRetry(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	require.Contains(t, o.fails(2, "jobs", "retry"), "want a job's id, or --failed")
	require.Contains(t, o.fails(2, "jobs", "retry", "x", "--failed"), "not both")
	require.Contains(t, o.fails(2, "jobs", "retry", "x", "--since", "1h"), "go with --failed")
	require.Contains(t, o.fails(2, "jobs", "retry", "--failed", "--rate", "0"), "--rate")
	require.Contains(t, o.fails(2, "jobs", "failed", "--since", "-2h"), "--since")
	require.Contains(t, o.fails(2, "jobs", "failed", "--limit", "0"), "--limit")
}

func TestKeyIsRotated(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	old := strings.TrimSpace(o.obs("keys", "create", "--team", o.team, "--scopes", "memories:read", "--label", "ci"))
	caller, err := o.service.Authenticate(t.Context(), old)
	require.NoError(t, err)
	secret := strings.TrimSpace(o.obs("keys", "rotate", caller.KeyID))
	_, err = o.service.Authenticate(t.Context(), old)
	require.ErrorIs(t, err, observe.ErrBadKey)
	now, err := o.service.Authenticate(t.Context(), secret)
	require.NoError(t, err)
	require.Equal(t, caller.Scopes, now.Scopes)
	require.NotEqual(t, caller.KeyID, now.KeyID)

	require.Contains(t, o.fails(1, "keys", "rotate", caller.KeyID), "revoked")
	require.Contains(t, o.fails(1, "keys", "rotate", "nobody"), `there is no key "nobody"`)
	require.Contains(t, o.fails(2, "keys", "rotate", secret), "that is a key's secret")
	var body keyBody
	require.NoError(t, json.Unmarshal([]byte(o.obs("keys", "rotate", now.KeyID, "--json")), &body))
	require.NotEmpty(t, body.APIKey)
	require.Equal(t, "ci", body.Label)
	require.NoError(t, json.Unmarshal([]byte(o.obs("keys", "revoke", body.ID, "--json")), &body))
	require.Equal(t, "revoked", body.Status)
}
