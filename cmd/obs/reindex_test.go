package main

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
)

// A worker renders what is there by today's rules, and the command says what
// came of it.
func TestReindex(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	d := startDev(t, "--data-dir", dir, "--addr", "127.0.0.1:0")
	code, body := d.calls[0].post(t)
	require.Equal(t, http.StatusCreated, code, body)
	server, err := boot.FindServer(dir)
	require.NoError(t, err)
	conn, err := pgx.Connect(t.Context(), server.Database)
	require.NoError(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	var project, id string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT project_id, id FROM observations").Scan(&project, &id))
	spoil := func() {
		_, err := conn.Exec(t.Context(), "UPDATE observations SET content = 'as of old', content_search = ''")
		require.NoError(t, err)
	}

	spoil()
	reindex := func(args ...string) string {
		return must(t, append([]string{"reindex", "--database-url", server.Database}, args...)...)
	}
	require.Equal(t, "1 observations looked at, 1 changed\n", reindex())
	code, body = d.calls[1].post(t)
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, "TestLead", "it is found again")
	require.Equal(t, "1 observations looked at, 0 changed\n", reindex("--project", project))

	spoil()
	var told struct {
		Projects []struct {
			ProjectID, JobID, Status string
			Seen, Changed, Placed    int
		}
	}
	require.NoError(t, json.Unmarshal([]byte(reindex("--project", project, "--observation", id, "--json")), &told))
	require.Equal(t, project, told.Projects[0].ProjectID)
	require.Equal(t, "completed", told.Projects[0].Status)
	require.Equal(t, [2]int{1, 1}, [2]int{told.Projects[0].Seen, told.Projects[0].Changed})
	require.Zero(t, d.end(), "%s", d.stderr)
}

// Without a worker it says that it waits, and what for.
func TestReindexWaits(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	start := func(ctx context.Context, args ...string) (stdout, stderr *output, code chan int) {
		stdout, stderr, code = &output{}, &output{}, make(chan int, 1)
		go func() { code <- runIn(ctx, stdout, stderr, append(args, "--database-url", o.dsn)...) }()
		return stdout, stderr, code
	}
	queued := func() string {
		for line := range strings.Lines(o.obs("jobs", "list", "--source-type", "observation_reindex", "--status", "queued")) {
			if id, _, _ := strings.Cut(strings.TrimSpace(line), " "); strings.HasPrefix(id, "reindex_") {
				return id
			}
		}
		return ""
	}

	stdout, stderr, code := start(t.Context(), "reindex")
	require.Eventually(t, func() bool { return strings.Contains(stderr.String(), "0 of 1 projects after ") }, time.Minute, 20*time.Millisecond)
	require.Contains(t, stderr.String(), " is queued\n")
	id := queued()
	o.obs("jobs", "cancel", id)
	require.Equal(t, 1, <-code)
	require.Contains(t, stderr.String(), "1 of 1 jobs did not complete")
	require.Contains(t, stdout.String(), o.project+"  job "+id+" is cancelled\n")

	ctx, cancel := context.WithCancel(t.Context())
	_, stderr, code = start(ctx, "reindex", "--team", o.team)
	require.Eventually(t, func() bool { return queued() != "" }, time.Minute, 20*time.Millisecond)
	cancel()
	require.Equal(t, 1, <-code)
	require.Contains(t, stderr.String(), "interrupted: the jobs go on")
	require.NotEmpty(t, queued())

	require.Contains(t, o.obs("reindex", "--no-wait"), " is queued\n")
	require.Contains(t, o.obs("reindex", "--help"), "Examples:")
	require.Contains(t, o.fails(2, "reindex", "--observation", "obs_1"), "--project")
	require.Contains(t, o.fails(2, "reindex", "now"), "unexpected argument")
	require.Contains(t, o.fails(1, "reindex", "--project", "nobody"), "no project")
	require.Contains(t, o.fails(1, "reindex", "--project", o.project, "--observation", "obs_1"), "Observation not found")
}
