package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
	"github.com/seed-245eaa15/obs/internal/testenv"
)

// office is a database with a tenant, and the commands on it.
type office struct {
	t             *testing.T
	dsn           string
	jobs          *db.Jobs
	service       *observe.Service
	team, project string
}

func newOffice(t *testing.T) *office {
	t.Helper()
	o := &office{t: t, dsn: testenv.Postgres(t)}
	pool, err := db.Open(t.Context(), db.Config{URL: o.dsn, MaxConns: 2})
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	o.jobs = db.NewJobs(pool, db.JobsConfig{Process: "test"})
	o.service = observe.New(observe.Config{Pool: pool, Jobs: o.jobs})
	o.team = strings.TrimSpace(o.obs("teams", "create", "platform"))
	o.project = strings.TrimSpace(o.obs("projects", "create", "--team", o.team, "api"))
	return o
}

func (o *office) obs(args ...string) string {
	o.t.Helper()
	return must(o.t, append(args, "--database-url", o.dsn)...)
}

// fails runs a command that has to end with that code, and gives its line.
func (o *office) fails(code int, args ...string) string {
	o.t.Helper()
	got, _, stderr := obs(o.t.Context(), append(args, "--database-url", o.dsn)...)
	require.Equal(o.t, code, got, "%s", stderr)
	require.Equal(o.t, 1, strings.Count(stderr.String(), "\n"), "%s", stderr)
	return stderr.String()
}

// record takes in n events and gives their jobs.
func (o *office) record(n int) []events.ID {
	o.t.Helper()
	var evs []observe.NewEvent
	for i := range n {
		evs = append(evs, observe.NewEvent{
			ProjectID: o.project, SourceType: "hook", EventType: "tool_use", OccurredAtEpoch: int64(i + 1), Payload: json.RawMessage(`{}`),
		})
	}
	caller := observe.Caller{Actor: "test", Team: o.team, Project: o.project, Scopes: []string{observe.ScopeAll}}
	recorded, err := o.service.Record(o.t.Context(), caller, evs, observe.RecordOptions{Generate: true})
	require.NoError(o.t, err)
	ids := make([]events.ID, n)
	for i, r := range recorded {
		ids[i] = r.Job.ID
	}
	return ids
}

func TestTenantsAndKeys(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	require.Contains(t, o.obs("teams", "list"), o.team)
	require.Contains(t, o.obs("projects", "list", "--team", o.team), o.project)
	require.Contains(t, o.fails(1, "projects", "create", "--team", o.team, "api"), "has a project of that name")
	require.Contains(t, o.fails(1, "projects", "create", "--team", "nobody", "web"), "Team not found")

	secret := strings.TrimSpace(o.obs("keys", "create", "--team", o.team, "--project", o.project, "--scopes", "memories:read,memories:write", "--days", "2"))
	caller, err := o.service.Authenticate(t.Context(), secret)
	require.NoError(t, err)
	require.Equal(t, []string{"memories:read", "memories:write"}, caller.Scopes)
	require.Equal(t, o.project, caller.Project)

	var keys []keyBody
	list := o.obs("keys", "list", "--json")
	require.NoError(t, json.Unmarshal([]byte(list), &keys))
	require.Len(t, keys, 1)
	require.NotContains(t, list, secret)
	require.NotNil(t, keys[0].ExpiresEpoch)

	require.Contains(t, o.fails(1, "keys", "revoke", "nobody"), `there is no key "nobody"`)
	o.obs("keys", "revoke", keys[0].ID)
	_, err = o.service.Authenticate(t.Context(), secret)
	require.ErrorIs(t, err, observe.ErrBadKey)
	require.NotContains(t, o.obs("keys", "list", "--active"), keys[0].ID)
	require.Contains(t, o.obs("keys", "list"), "revoked")
}

func TestJobs(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	ids := o.record(3)
	id := string(ids[0])

	list := o.obs("jobs", "list")
	require.Contains(t, list, id)
	require.Contains(t, list, "3 of 3 jobs")
	for line := range strings.Lines(list) {
		require.LessOrEqual(t, columns(strings.TrimSuffix(line, "\n")), wide)
	}
	require.Contains(t, o.obs("jobs", "list", "--status", "failed"), "0 of 0 jobs")
	require.Contains(t, o.obs("jobs", "list", "--limit", "2", "--since", "1h", "--project", o.project), "2 of 3 jobs")
	require.Contains(t, o.obs("jobs", "list", "--since", time.Now().Add(time.Hour).UTC().Format(time.RFC3339)), "0 of 0 jobs")

	require.Equal(t, "job "+id+" was queued already\n", o.obs("jobs", "retry", id))
	require.Equal(t, "job "+id+" is cancelled\n", o.obs("jobs", "cancel", id))
	require.Equal(t, "job "+id+" was cancelled already\n", o.obs("jobs", "cancel", id))
	require.Contains(t, o.obs("jobs", "show", id), "cancelled")
	require.Equal(t, "job "+id+" is queued again\n", o.obs("jobs", "retry", id))

	history := o.obs("jobs", "history", id)
	require.Equal(t, 4, strings.Count(history, "\n"), "a head and three events: %s", history)
	require.Contains(t, history, "operator")
	var all []eventBody
	require.NoError(t, json.Unmarshal([]byte(o.obs("jobs", "history", id, "--json")), &all))
	require.Len(t, all, 3)
	require.Equal(t, "cancelled", all[1].Type)
	var job jobBody
	require.NoError(t, json.Unmarshal([]byte(o.obs("jobs", "show", id, "--json")), &job))
	require.Equal(t, "queued", job.Status)
	require.Equal(t, o.team, job.TeamID)

	for _, command := range []string{"show", "history", "retry", "cancel"} {
		require.Equal(t, "obs: there is no job nobody\n", o.fails(1, "jobs", command, "nobody"))
	}
	require.Contains(t, o.obs("check"), "3 jobs checked, 0 findings")
}

func TestCheckNamesEachViolation(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	ids := o.record(2)
	conn, err := pgx.Connect(t.Context(), o.dsn)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), `DELETE FROM outbox WHERE job_id = $1`, string(ids[1]))
	require.NoError(t, err)

	code, stdout, stderr := obs(t.Context(), "check", "--database-url", o.dsn)
	require.Equal(t, boot.ExitFailed, code)
	require.Empty(t, stderr.String())
	lines := strings.Split(strings.TrimSpace(stdout.String()), "\n")
	require.True(t, strings.HasPrefix(lines[0], fmt.Sprintf("I6 job %s: ", ids[1])), lines[0])
	require.Equal(t, "2 jobs checked, 1 findings", lines[len(lines)-1])

	code, stdout, _ = obs(t.Context(), "check", "--json", "--database-url", o.dsn)
	require.Equal(t, boot.ExitFailed, code)
	var body struct {
		Jobs     int
		Findings []struct{ Invariant, Subject, Text string }
	}
	require.NoError(t, json.Unmarshal([]byte(stdout.String()), &body))
	require.Equal(t, 2, body.Jobs)
	require.Equal(t, "I6", body.Findings[0].Invariant)
}

func TestEmptyDatabaseIsTold(t *testing.T) {
	t.Parallel()
	dsn := testenv.EmptyPostgres(t)
	for _, args := range [][]string{{"jobs", "list"}, {"check"}, {"teams", "list"}, {"jobs", "show", "x"}} {
		code, _, stderr := obs(t.Context(), append(args, "--database-url", dsn)...)
		require.Equal(t, boot.ExitFailed, code)
		require.Equal(t, "obs: the database has no tables of obs yet: run obs migrate, or start any part of obs on it\n", stderr.String())
	}
	require.Contains(t, must(t, "migrate", "--database-url", dsn), "the database has schema ")
	require.Contains(t, must(t, "migrate", "--database-url", dsn), "the database has schema ", "again")
	require.Contains(t, must(t, "jobs", "list", "--database-url", dsn), "0 of 0 jobs")
}
