package hook_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seed-245eaa15/obs/internal/hook"
)

func tool(t *testing.T, id string) string {
	return input(t, "post-tool-use", map[string]any{"tool_use_id": id})
}

func (w *world) flush(c hook.Config, again bool) hook.Report {
	w.t.Helper()
	r, err := hook.Flush(w.t.Context(), c, again)
	require.NoError(w.t, err)
	return r
}

// Whatever the server does short of taking it, the event waits, and a later
// hook brings it.
func TestWhatCannotBeSentWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, road := range map[string]int32{
		"down": down, "lost": lost, "errs": errs, "busy": busy, "login": login, "redirect": away,
	} {
		dir := t.TempDir()
		c := w.config(dir)
		w.road.Store(road)
		session := map[string]any{"session_id": name, "tool_use_id": name}
		w.call(c, "user-prompt-submit", input(t, "user-prompt-submit", session))
		w.call(c, "post-tool-use", input(t, "post-tool-use", session))
		spooled := files(t, dir, "spool")
		require.Len(t, spooled, 2, name)
		info, err := os.Stat(spooled[0])
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
		w.road.Store(up)
		w.call(c, "pre-compact", input(t, "pre-compact", nil)) // it has nothing to say itself
		require.Empty(t, files(t, dir, "spool"), name)
		require.Empty(t, files(t, dir, "rejected"), name)
		require.Equal(t, 1, w.count(`SELECT count(*) FROM agent_events e JOIN server_sessions s ON s.id = e.server_session_id
			WHERE s.external_session_id = $1 AND s.prompts = '{Why does TestCheckout fail since yesterday?}'`, name), name)
	}
	require.Equal(t, 6, w.count(`SELECT count(*) FROM agent_events`))
}

func TestAServerThatAsksForTimeGetsIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := t.TempDir()
	c := w.config(dir)
	w.road.Store(limits)
	w.call(c, "post-tool-use", tool(t, "toolu_1"))
	w.road.Store(up)
	w.call(c, "post-tool-use", tool(t, "toolu_2"))
	require.EqualValues(t, 1, w.calls.Load())
	require.Equal(t, hook.Report{Sent: 2}, w.flush(c, false), "who says flush means now")
	require.Equal(t, 2, w.count(`SELECT count(*) FROM agent_events`))
}

// A key that is wrong is no fault of the event; a wrong event is.
func TestRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := t.TempDir()
	c, wrong := w.config(dir), w.config(dir)
	wrong.Key = "obs_wrong"
	w.call(wrong, "post-tool-use", tool(t, "toolu_1"))
	other := w.config(dir)
	other.Project = "project-of-others"
	w.call(other, "post-tool-use", tool(t, "toolu_2"))
	require.Len(t, files(t, dir, "spool"), 2)
	w.call(c, "post-tool-use", tool(t, "toolu_3"))
	require.Len(t, files(t, dir, "spool"), 1, "our own project's are sent, the others' key may come yet")
	r := w.flush(c, false)
	require.Equal(t, 1, r.Waiting)
	require.ErrorContains(t, r.Err, "403")
	require.Equal(t, 2, w.count(`SELECT count(*) FROM agent_events`))

	// An id longer than any is hopeless.
	long := string(make([]byte, 300))
	w.call(c, "user-prompt-submit", input(t, "user-prompt-submit", map[string]any{"session_id": long}))
	require.Len(t, files(t, dir, "rejected"), 1)
	w.call(c, "post-tool-use", tool(t, "toolu_4"))
	require.Equal(t, 3, w.count(`SELECT count(*) FROM agent_events`), "it is in nobody's way")
	r = w.flush(c, true)
	require.Equal(t, 1, r.Rejected, "tried again, and rejected again")
	require.Equal(t, 1, r.Waiting)

	// What is no delivery at all is put aside as well.
	name := files(t, dir, "spool")[0]
	require.NoError(t, os.WriteFile(name, []byte(`{"hook":`), 0o600))
	require.Equal(t, 1, w.flush(c, false).Rejected)
	require.Len(t, files(t, dir, "rejected"), 2)
}

// Where nothing can be spooled, the server is told at once.
func TestWithoutASpool(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "spool"), nil, 0o600)) // in the folder's place
	out, err := runHook(t, w.config(dir), "stop", input(t, "stop", nil))
	require.ErrorContains(t, err, "sent without a spool")
	require.Empty(t, out)
	require.Equal(t, 1, w.count(`SELECT count(*) FROM agent_events`))
	require.Equal(t, 1, w.count(`SELECT count(*) FROM server_sessions WHERE ended_at IS NOT NULL`))
	w.road.Store(down)
	_, err = runHook(t, w.config(dir), "post-tool-use", input(t, "post-tool-use", nil))
	require.ErrorContains(t, err, "it is lost")
}

// An input is told of, however much is in it.
func TestHugeInput(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.config(t.TempDir())
	for i, response := range []string{
		`"` + strings.Repeat(`é\ud83d\ude00\n\\\"`, 1<<20) + `the end"`, "[" + strings.Repeat(`"some line",`, 3<<20) + `"end"]`, `{"a":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + "}",
	} {
		text := fmt.Sprintf(`{"session_id":"s","tool_name":"Read","tool_response":%s,"tool_use_id":"toolu_%d","tool_input":{"n":12345678901234567890}}`, response, i)
		w.call(c, "post-tool-use", text)
		require.Equal(t, 1, w.count(`SELECT count(*) FROM agent_events WHERE source_event_id = $1 AND payload->>'tool_name' = 'Read'`, fmt.Sprint("s/toolu_", i)), i)
	}
	require.Equal(t, 1, w.count(`SELECT count(*) FROM agent_events WHERE payload->>'tool_response' LIKE E'é😀\n\\\\"é😀%[…]%\\\\"the end'`))
	require.Equal(t, 1, w.count(`SELECT count(*) FROM agent_events WHERE payload->>'tool_response' LIKE '["some line",%"some line","end"]'`))
}

func TestSpoolIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := t.TempDir()
	c := w.config(dir)
	c.MaxFiles = 5
	w.road.Store(down)
	for i := range 9 {
		w.call(c, "post-tool-use", tool(t, fmt.Sprintf("toolu_%d", i)))
	}
	require.Len(t, files(t, dir, "spool"), 5)
	c.MaxFiles, c.MaxBytes = 0, 1
	w.call(c, "post-tool-use", tool(t, "toolu_9"))
	require.Len(t, files(t, dir, "spool"), 1, "the newest stays, whatever its size")
	w.road.Store(up)
	require.Equal(t, hook.Report{Sent: 1}, w.flush(c, false))
	require.Equal(t, 1, w.count(`SELECT count(*) FROM agent_events WHERE source_event_id LIKE '%/toolu_9'`))
}

func TestLogIsBoundedAndHasNoSecrets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "a", "hook")
	for _, size := range []int{0, 2 << 20} {
		require.NoError(t, os.MkdirAll(dir, 0o700))
		if size > 0 {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "hook.log"), make([]byte, size), 0o600))
		}
		log, file, err := hook.OpenLog(dir, io.Discard)
		require.NoError(t, err)
		c := w.config(dir)
		c.Log = log
		w.road.Store(down)
		w.call(c, "user-prompt-submit", input(t, "user-prompt-submit", nil))
		require.NoError(t, file.Close())
		text, err := os.ReadFile(filepath.Join(dir, "hook.log"))
		require.NoError(t, err)
		require.Contains(t, string(text), "the server is away")
		require.Less(t, len(text), 10_000)
		require.NotContains(t, string(text), w.key)
		require.NotContains(t, string(text), "TestCheckout")
	}
	require.FileExists(t, filepath.Join(dir, "hook.log.1"))
}

func TestFlushEndsInTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.config(t.TempDir())
	w.road.Store(down)
	w.call(c, "post-tool-use", tool(t, "toolu_1"))
	w.road.Store(hangs)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	r, err := hook.Flush(ctx, c, false)
	require.NoError(t, err)
	require.Equal(t, 1, r.Waiting)
	require.ErrorIs(t, r.Err, context.DeadlineExceeded)
}

// However the server comes and goes, and however many hooks run at once or
// report the same thing twice: each event is stored once, in its session.
func TestExactlyOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := t.TempDir()
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		session := fmt.Sprintf("session-%d", round)
		c := w.config(filepath.Join(root, session))
		fresh := func(event, id string) string {
			return input(t, event, map[string]any{"session_id": session, "tool_use_id": id, "last_assistant_message": id})
		}
		w.road.Store(rapid.SampledFrom([]int32{up, down, lost}).Draw(rt, "road at first"))
		w.call(c, "user-prompt-submit", fresh("user-prompt-submit", ""))
		tools := map[string]bool{}
		stops := 0
		for range rapid.IntRange(1, 6).Draw(rt, "steps") {
			w.road.Store(rapid.SampledFrom([]int32{up, up, down, lost, errs, busy, login}).Draw(rt, "road"))
			var wg sync.WaitGroup
			for range rapid.IntRange(1, 4).Draw(rt, "at once") {
				event, id := "stop", ""
				if rapid.IntRange(0, 3).Draw(rt, "what") > 0 {
					event, id = "post-tool-use", fmt.Sprintf("toolu_%d", rapid.IntRange(0, 9).Draw(rt, "id"))
					tools[id] = true
				} else {
					stops++
					id = fmt.Sprintf("message %d", stops)
				}
				text := fresh(event, id)
				wg.Go(func() {
					if _, err := runHook(t, c, event, text); err != nil {
						t.Errorf("%s: %v", event, err)
					}
				})
			}
			wg.Wait()
		}
		w.road.Store(up)
		r, err := hook.Flush(t.Context(), c, false)
		require.NoError(rt, err)
		require.NoError(rt, r.Err)
		require.Zero(rt, r.Waiting+r.Rejected)
		require.Empty(rt, files(t, c.Dir, "spool"))
		require.Empty(rt, files(t, c.Dir, "rejected"))

		ours := `SELECT count(*) FROM agent_events e JOIN server_sessions s ON s.id = e.server_session_id WHERE s.external_session_id = $1`
		require.Equal(rt, len(tools), w.count(ours+` AND event_type = 'tool_use'`, session))
		require.Equal(rt, stops, w.count(ours+` AND event_type = 'assistant_message'`, session))
		require.Equal(rt, 1, w.count(`SELECT count(*) FROM server_sessions WHERE external_session_id = $1 AND (ended_at IS NOT NULL) = ($2 > 0)
			AND prompts = '{Why does TestCheckout fail since yesterday?}'`, session, stops))
	})
	require.Zero(t, w.count(`SELECT count(*) FROM agent_events WHERE server_session_id IS NULL`))
}
