package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/internal/observe"
)

func TestUsageAndBudgets(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	conn, err := pgx.Connect(t.Context(), o.dsn)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), `INSERT INTO usage_events (team_id, project_id, kind, quantity, provider, model)
		VALUES ($1, $2, 'tokens', 1200, 'anthropic', 'claude-haiku-4-5'), ($1, $2, 'tokens_out', 200, 'anthropic', 'claude-haiku-4-5'),
		       ($1, $2, 'cost', 2000, 'anthropic', 'claude-haiku-4-5'), ($1, $2, 'request', 1, '', '')`, o.team, o.project)
	require.NoError(t, err)

	require.Regexp(t, `anthropic +1000 +200 +0\.0020 +claude-haiku-4-5`, o.obs("usage"))
	require.NotContains(t, o.obs("usage"), "held")
	require.NotContains(t, o.obs("usage", "--month", "2026-01"), "anthropic")
	require.Contains(t, o.obs("usage", "--month", time.Now().UTC().Format("2006-01")), "anthropic")
	require.Contains(t, o.fails(2, "usage", "--month", "last"), `--month: got "last"`)
	require.Regexp(t, o.team+` +server +server`, o.obs("budget", "show"))
	require.Equal(t, "team "+o.team+": tokens 1200, usd server; 0 held jobs may go\n", o.obs("budget", "set", "--team", o.team, "--tokens", "1200"))
	require.Contains(t, o.obs("usage", "--team", o.team), "team "+o.team+" is held: the team has used 1200 of the 1200 tokens of its month")
	var used []usageBody
	require.NoError(t, json.Unmarshal([]byte(o.obs("usage", "--json")), &used))
	require.Equal(t, []observe.UsedBy{{Project: o.project, Provider: "anthropic", Model: "claude-haiku-4-5", TokensIn: 1000, TokensOut: 200, Cost: 2000}}, used[0].By)
	require.EqualValues(t, 1200, *used[0].Budget.Tokens)
	require.Nil(t, used[0].Budget.Cost)
	require.NotEmpty(t, used[0].Reason)

	// A job that a worker has put off shows as held, and goes when there is room.
	id := o.record(1)[0]
	claims, err := o.jobs.Begin(t.Context(), events.Holder{ID: "w1"}, []events.Envelope{{
		Job: id, Kind: "event", Asked: 1, Scope: events.Scope{Team: o.team, Project: o.project},
	}})
	require.NoError(t, err)
	require.NoError(t, claims[0].Err)
	errs, err := o.jobs.Move(t.Context(), nil, []events.Step{{Job: claims[0].Job, Delay: time.Hour, Event: events.Event{
		Type: events.Released, Process: "w1", Actor: "worker", Reason: "the month is used up", Details: events.Held(),
	}}})
	require.NoError(t, err)
	require.NoError(t, errs[0])
	list := o.obs("jobs", "list", "--status", "held")
	require.Contains(t, list, "1 of 1 jobs")
	require.Regexp(t, string(id)+` +held +0/3`, list)
	require.Contains(t, o.obs("jobs", "show", string(id)), "the month is used up")
	require.Regexp(t, `next .*\(in (?:59|60)m\)`, o.obs("jobs", "show", string(id)))
	var job jobBody
	require.NoError(t, json.Unmarshal([]byte(o.obs("jobs", "show", string(id), "--json")), &job))
	require.Equal(t, "the month is used up", job.Held)
	require.Equal(t, "queued", job.Status)
	require.Contains(t, o.obs("budget", "set", "--team", o.team, "--tokens", "none", "--usd", "0.5"), "tokens none, usd 0.5000; 1 held jobs may go")
	require.Contains(t, o.obs("budget", "set", "--team", o.team, "--usd", "0.000001"), "usd 0.000001;")
	require.Contains(t, o.obs("jobs", "list", "--status", "held"), "0 of 0 jobs")
	require.Contains(t, o.obs("audit", "--team", o.team), "team.budget")

	require.Contains(t, o.fails(2, "budget", "set", "--team", o.team), "want --tokens or --usd")
	require.Contains(t, o.fails(2, "budget", "set", "--team", o.team, "--usd=-1"), `--usd: got "-1"`)
	require.Contains(t, o.fails(2, "budget", "set", "--team", o.team, "--tokens", "many"), `--tokens: got "many"`)
	require.Contains(t, o.fails(1, "budget", "set", "--team", "nobody", "--tokens", "5"), "Team not found")
	require.Contains(t, o.obs("check"), "1 jobs checked, 0 findings")
}

func TestPrices(t *testing.T) {
	t.Parallel()
	require.Equal(t, llm.DefaultPrices(), must(t, "prices"))
	file := filepath.Join(t.TempDir(), "prices.txt")
	require.NoError(t, os.WriteFile(file, []byte("openai llama* 0 0\n"), 0o600))
	require.Equal(t, "openai llama* 0 0\n", must(t, "prices", "--prices", file))
	require.NoError(t, os.WriteFile(file, []byte("openai llama* 0\n"), 0o600))
	for _, args := range [][]string{{"prices"}, {"worker", "--database-url", "postgres://h/d", "--nats-url", "nats://h"}} {
		code, _, stderr := obs(t.Context(), append(args, "--prices", file)...)
		require.Equal(t, 2, code)
		require.Contains(t, stderr.String(), "--prices (OBS_PRICES): line 1: want a provider")
		require.Equal(t, 1, strings.Count(stderr.String(), "\n"))
	}
}
