package main

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func (o *office) audit(args ...string) []auditBody {
	o.t.Helper()
	var entries []auditBody
	require.NoError(o.t, json.Unmarshal([]byte(o.obs(append([]string{"audit", "--json"}, args...)...)), &entries))
	return entries
}

func TestAuditByScope(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	other := strings.TrimSpace(o.obs("teams", "create", "other"))
	o.obs("keys", "create", "--team", o.team, "--project", o.project)
	o.obs("keys", "create", "--team", o.team)
	o.obs("keys", "create", "--team", other)
	id := string(o.record(1)[0])
	o.obs("jobs", "cancel", id)

	all := o.audit()
	require.Equal(t, "generation_job.cancelled_by_operator", all[0].Action, "the newest first")
	require.Equal(t, id, *all[0].JobID)
	require.Equal(t, "operator", all[0].ActorID)
	require.Len(t, o.audit("--action", "api_key.create"), 3)
	require.Len(t, o.audit("--action", "api_key.create", "--team", o.team), 2)
	require.Len(t, o.audit("--action", "api_key.create", "--team", o.team, "--project", o.project), 1)
	require.Len(t, o.audit("--action", "api_key.create", "--project", o.project), 1)
	require.Empty(t, o.audit("--team", other, "--project", o.project))
	require.Empty(t, o.audit("--since", "2100-01-01T00:00:00Z"))
	require.Len(t, o.audit("--since", "1h"), len(all), "reading left no trace")
	require.Len(t, o.audit("--limit", "2"), 2)

	text := o.obs("audit")
	require.Contains(t, text, "generation_job.cancelled_by_operator")
	for line := range strings.Lines(text) {
		require.LessOrEqual(t, columns(strings.TrimSuffix(line, "\n")), wide, line)
	}
	require.Contains(t, o.fails(2, "audit", "--since", "soon"), "--since")
	require.Contains(t, o.fails(2, "audit", "--limit", "10001"), "--limit")
}

// What is done on the command line is told, of whom it was done for.
func TestWhatTheOperatorDoesIsAudited(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	job := string(o.record(1)[0])
	var key, next struct{ ID string }
	require.NoError(t, json.Unmarshal([]byte(o.obs("keys", "create", "--team", o.team, "--project", o.project, "--json")), &key))
	require.NoError(t, json.Unmarshal([]byte(o.obs("keys", "rotate", key.ID, "--json")), &next))
	o.obs("keys", "revoke", next.ID)
	o.obs("jobs", "cancel", job)
	o.obs("jobs", "retry", job)
	o.obs("projects", "set", o.project, "--policy", "debounce")
	for _, c := range []struct{ action, resource, job string }{
		{"api_key.create", key.ID, ""},
		{"api_key.rotate", next.ID, ""},
		{"api_key.revoke", key.ID, ""},
		{"api_key.revoke", next.ID, ""},
		{"generation_job.cancelled_by_operator", job, job},
		{"generation_job.retried_by_operator", job, job},
		{"project.policy", o.project, ""},
		{"generation_job.queued", job, job},
	} {
		found := false
		for _, e := range o.audit("--team", o.team, "--project", o.project, "--action", c.action) {
			if e.ResourceID != c.resource {
				continue
			}
			found = true
			require.NotEmpty(t, e.ActorID, c.action)
			if c.action != "generation_job.queued" { // somebody else's
				require.Equal(t, "operator", e.ActorID, c.action)
			}
			require.Equal(t, c.job == "", e.JobID == nil, c.action)
		}
		require.True(t, found, "%s of %s", c.action, c.resource)
	}
}

func TestAuditIsReadPageByPage(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	conn, err := pgx.Connect(t.Context(), o.dsn)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), `INSERT INTO audit_log (team_id, actor_id, action, resource_type)
		SELECT $1, 'a', 'many', 'none' FROM generate_series(1, 1201)`, o.team)
	require.NoError(t, err)
	for _, c := range []struct{ limit, want int }{{1, 1}, {500, 500}, {501, 501}, {1200, 1200}, {10_000, 1201}} {
		entries := o.audit("--action", "many", "--limit", strconv.Itoa(c.limit))
		require.Len(t, entries, c.want)
		for i := 1; i < len(entries); i++ {
			require.Less(t, number(t, entries[i].ID), number(t, entries[i-1].ID))
		}
	}
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}
