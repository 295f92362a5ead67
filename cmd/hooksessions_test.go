package cmd_test

import (
	"cmp"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var hooksFor = flag.Duration("hooks", 6*time.Second, "how long the sessions of TestHooksOfManySessions go on")

// told is what an agent has reported, for one of its sessions.
type told struct{ session, text string }

// ledger has all that agents have reported, whatever the hook said of it.
type ledger struct {
	mu      sync.Mutex
	events  []told
	prompts []told
	ended   map[string]bool
}

func (l *ledger) note(list *[]told, session, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*list = append(*list, told{session, text})
}

// work has sessions, one behind the other, until the time is over. Half of
// what happens is reported twice, as by a hook that is installed twice.
func (a *agent) work(name string, over time.Time, l *ledger) error {
	for n := 0; time.Now().Before(over); n++ {
		session := fmt.Sprintf("%s-%d", name, n)
		say := func(event string, input map[string]any) error {
			input["session_id"] = session
			_, err := a.hook(event, input)
			return err
		}
		if err := say("SessionStart", map[string]any{"source": "startup"}); err != nil {
			return err
		}
		for turn := range 3 {
			prompt := fmt.Sprintf("Find the leaders of %s, turn %d.", session, turn)
			l.note(&l.prompts, session, prompt)
			if err := say("UserPromptSubmit", map[string]any{"prompt": prompt}); err != nil {
				return err
			}
			for tool := range 1 + rand.IntN(8) {
				command := fmt.Sprintf("go test ./%s/turn%d/part%d", session, turn, tool)
				l.note(&l.events, session, command)
				for range 1 + tool%2 {
					if err := say("PostToolUse", map[string]any{
						"tool_use_id": fmt.Sprintf("toolu_%d_%d", turn, tool), "tool_name": "Bash", "tool_input": map[string]any{"command": command},
						"tool_response": map[string]any{"exit_code": 1, "stdout": "--- FAIL: TestPart (0.01s)\n    part_test.go:1: two leaders"},
					}); err != nil {
						return err
					}
				}
			}
			words := fmt.Sprintf("In %s, turn %d, there were two leaders.", session, turn)
			l.note(&l.events, session, words)
			if err := say("Stop", map[string]any{"last_assistant_message": words}); err != nil {
				return err
			}
		}
		l.mu.Lock()
		l.ended[session] = true
		l.mu.Unlock()
		if err := say("SessionEnd", map[string]any{}); err != nil {
			return err
		}
	}
	return nil
}

// Several sessions at once go on while their server is stopped once and killed
// once. What they reported is compared with what is in Postgres, one by one.
// `task test:hooks` does it for ten minutes.
func TestHooksOfManySessions(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	a := newAgent(t, s)
	server := a.server()
	s.relay()
	s.worker()

	l := &ledger{ended: map[string]bool{}}
	began := time.Now()
	over := began.Add(*hooksFor)
	errs := make(chan error, 3)
	for i := range cap(errs) {
		go func() { errs <- a.work(fmt.Sprint("s", i), over, l) }()
	}
	// at waits for a moment between two parts of the time.
	at := func(from, to float64) {
		moment := began.Add(time.Duration((from + (to-from)*rand.Float64()) * float64(*hooksFor)))
		<-time.After(time.Until(moment))
	}
	away := func(how string, gone time.Time) {
		require.Eventually(t, func() bool { return a.waiting() > 0 }, patience, look, "hooks report while it is away")
		t.Logf("%s after %.1f s, up again %.1f s later", how, gone.Sub(began).Seconds(), time.Since(gone).Seconds())
	}
	at(0.2, 0.4)
	gone := time.Now()
	require.Zero(t, server.end(t, syscall.SIGTERM, 20*time.Second))
	at(0.4, 0.5)
	away("stopped", gone)
	server = a.server()
	at(0.6, 0.75)
	gone = time.Now()
	server.kill()
	at(0.75, 0.85)
	away("killed", gone)
	server = a.server()
	for range cap(errs) {
		require.NoError(t, <-errs)
	}

	flush := run(t, "obs", "hook", "flush", "--config", filepath.Join(a.home, "hook.json"), "--state-dir", a.state())
	require.Zero(t, flush.exit(t, patience), "%s", flush.out)
	require.Contains(t, flush.out.String(), "rejected 0, waiting 0")
	require.Empty(t, must(filepath.Glob(filepath.Join(a.state(), "rejected", "*"))))

	stored := s.told(`SELECT coalesce(s.external_session_id, ''), coalesce(e.payload->'tool_input'->>'command', e.payload->>'last_assistant_message')
		FROM agent_events e LEFT JOIN server_sessions s ON s.id = e.server_session_id`)
	require.Equal(t, sorted(l.events), sorted(stored), "each event once, in its session")
	require.Equal(t, sorted(l.prompts), sorted(s.told(`SELECT external_session_id, unnest(prompts) FROM server_sessions`)))
	require.Equal(t, len(l.ended), s.count(`SELECT count(*) FROM server_sessions WHERE ended_at IS NOT NULL`))
	require.Equal(t, len(l.ended), s.count(`SELECT count(*) FROM server_sessions`))

	s.settled(s.count(`SELECT count(*) FROM observation_generation_jobs`))
	require.Equal(t, len(stored), s.count(`SELECT count(DISTINCT source_id) FROM observation_generation_jobs WHERE source_type = 'agent_event'`))
	s.check()
	require.Zero(t, server.end(t, syscall.SIGTERM, 20*time.Second))
	t.Logf("%d events and %d prompts of %d sessions in %v: each is there once", len(stored), len(l.prompts), len(l.ended), hooksFor)
}

func sorted(list []told) []told {
	return slices.SortedFunc(slices.Values(list), func(a, b told) int {
		return cmp.Or(strings.Compare(a.session, b.session), strings.Compare(a.text, b.text))
	})
}

// told reads rows of a session's name and a text.
func (s *stack) told(sql string) []told {
	s.t.Helper()
	rows, err := s.pool.Query(s.t.Context(), sql)
	require.NoError(s.t, err)
	defer rows.Close()
	var out []told
	for rows.Next() {
		var one told
		require.NoError(s.t, rows.Scan(&one.session, &one.text))
		out = append(out, one)
	}
	require.NoError(s.t, rows.Err())
	return out
}
