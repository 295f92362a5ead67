package cmd_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/netfault"
	"github.com/seed-245eaa15/obs/internal/observe"
	"github.com/seed-245eaa15/obs/outbox"
)

// newRow is a stack for a row of the fault matrix.
func newRow(t *testing.T) *stack {
	t.Helper()
	s := newStack(t)
	s.impatient(1)
	return s
}

// impatient makes the streams with an AckWait of 2 s in place of 30: what a
// dead worker held comes back soon. The programs leave alone what a newer
// version than theirs has made.
func (s *stack) impatient(replicas int) {
	s.t.Helper()
	js := s.js()
	streams := outbox.Streams{Kinds: observe.Kinds(), AckWait: 2 * time.Second, Replicas: replicas}
	require.Eventually(s.t, func() bool { return outbox.Ensure(s.t.Context(), js, streams) == nil }, patience, look, "the streams are made")
	for _, kind := range observe.Kinds() {
		consumer, err := js.Consumer(s.t.Context(), streams.JobsStream(), streams.Consumer(kind))
		require.NoError(s.t, err)
		c := consumer.CachedInfo().Config
		c.Metadata["obs.schema"] = "99"
		_, err = js.UpdateConsumer(s.t.Context(), streams.JobsStream(), c)
		require.NoError(s.t, err)
	}
}

// eventually waits for what has to happen in the end.
func (s *stack) eventually(what string, is func() bool) {
	s.t.Helper()
	require.Eventually(s.t, is, patience, look, what)
}

// dies waits until a process has been killed by its fault.
func (p *proc) dies(t *testing.T) {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		require.Fail(t, "it lives", "%s: %s", p.name, p.out)
	}
	require.Contains(t, p.out.String(), "fault: ", "it died of something else")
}

func (p *proc) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(sig))
}

func (p *proc) says(text string) bool { return strings.Contains(p.out.String(), text) }

// mood is a file that tells the provider of a faulty worker how to be.
func (s *stack) mood(is string) string {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "mood")
	require.NoError(s.t, os.WriteFile(file, []byte(is), 0o600))
	return file
}

// moodyWorker is a worker whose provider is in a mood.
func (s *stack) moodyWorker(mood string, args ...string) *proc {
	s.t.Helper()
	all := append([]string{"--lease", lease, "--slots", "event=20", "--worker-name", "moody"}, args...)
	return s.startWith([]string{"OBS_FAULTS_PROVIDER=" + s.mood(mood)}, "faults/obs-worker", all...)
}

// totals are the counts that a relay gives.
func (s *stack) totals(relay *proc) (totals struct{ Published, Duplicates, Refused, Reclaimed int }) {
	s.t.Helper()
	code, body := get(s.t, relay.url+"/v1/info", "")
	require.Equal(s.t, http.StatusOK, code)
	var info struct{ Totals any }
	info.Totals = &totals
	require.NoError(s.t, json.Unmarshal(body, &info), "%s", body)
	return totals
}

// history counts the events of a type in the histories of all jobs.
func (s *stack) history(typ string) int {
	s.t.Helper()
	return s.count(`SELECT count(*) FROM observation_generation_job_events WHERE event_type = $1`, typ)
}

// onJobs is how many messages wait for workers, or are held by them.
func (s *stack) onJobs(js jetstream.JetStream) int {
	s.t.Helper()
	stream, err := js.Stream(s.t.Context(), "JOBS")
	if err != nil {
		return 0
	}
	return int(stream.CachedInfo().State.Msgs)
}

func proxy(t *testing.T, target string) *netfault.Proxy {
	t.Helper()
	p, err := netfault.Listen(target)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// proxied puts a proxy before the broker, and gives the flag that leads there.
func (s *stack) proxiedNATS() (*netfault.Proxy, []string) {
	s.t.Helper()
	p := proxy(s.t, fmt.Sprintf("127.0.0.1:%d", s.port))
	return p, []string{"--nats-url", "nats://" + p.Addr()}
}

// tell posts an event and reports whether it was accepted.
func (s *stack) tell(n int) bool {
	s.t.Helper()
	code, body := s.post("/v1/events", s.event(n))
	if code != http.StatusCreated {
		return false
	}
	s.accept(body)
	return true
}

// sql runs statements on the row's database.
func (s *stack) sql(statements string) {
	s.t.Helper()
	_, err := s.pool.Exec(s.t.Context(), statements)
	require.NoError(s.t, err)
}

// noneTwice verifies that no attempt was begun that nobody asked for. A worker
// that a slow machine kept from renewing its lease gives its jobs back, and
// they are asked for again.
func (s *stack) noneTwice() {
	s.t.Helper()
	require.LessOrEqual(s.t, s.history("processing"), s.count(`SELECT count(*) FROM observation_generation_jobs`)+
		s.history("released")+s.history("reclaimed")+s.history("retry_scheduled"), "no handler saw a job twice")
}
