package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/llm/llmtest"
)

// dev is `obs dev` as a test runs it.
type dev struct {
	t      *testing.T
	stop   context.CancelFunc
	code   chan int
	stdout *output
	stderr *output
	url    string
	key    string
	calls  []call // the two to paste
}

// call is a curl line of the welcome, taken apart.
type call struct{ url, key, body string }

var (
	upAt     = regexp.MustCompile(`obs is up at (http://\S+)`)
	keyRow   = regexp.MustCompile(`(?m)^  key +(\S+)$`)
	curlLine = regexp.MustCompile(`(?m)^curl -s '([^']+)' -H 'Authorization: Bearer ([^']+)' -H 'Content-Type: application/json' -d '([^']+)'$`)
)

func startDev(t *testing.T, args ...string) *dev {
	t.Helper()
	d := &dev{t: t, code: make(chan int, 1)}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	d.stop = stop
	d.stdout, d.stderr = &output{}, &output{}
	go func() { d.code <- runIn(ctx, d.stdout, d.stderr, append([]string{"dev"}, args...)...) }()
	t.Cleanup(stop)
	require.Eventually(t, func() bool {
		if strings.Contains(d.stdout.String(), "Ctrl-C stops it") {
			return true
		}
		select {
		case code := <-d.code:
			require.Fail(t, "it ended", "%d: %s", code, d.stderr)
		default:
		}
		return false
	}, 3*time.Minute, 20*time.Millisecond)
	d.url = upAt.FindStringSubmatch(d.stdout.String())[1]
	d.key = keyRow.FindStringSubmatch(d.stdout.String())[1]
	for _, page := range []string{"/live", "/docs"} { // both are there to be opened
		require.Contains(t, d.stdout.String(), d.url+page+"\n")
		res, err := http.Get(d.url + page)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusOK, res.StatusCode)
		require.Equal(t, "text/html; charset=utf-8", res.Header.Get("Content-Type"))
	}
	for _, m := range curlLine.FindAllStringSubmatch(d.stdout.String(), -1) {
		d.calls = append(d.calls, call{m[1], m[2], m[3]})
	}
	require.Len(t, d.calls, 2, "%s", d.stdout)
	return d
}

// end stops it as SIGINT does, and gives its exit code.
func (d *dev) end() int {
	d.t.Helper()
	d.stop()
	select {
	case code := <-d.code:
		return code
	case <-time.After(time.Minute):
		require.Fail(d.t, "it does not end")
		return -1
	}
}

func (c call) post(t *testing.T) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url, strings.NewReader(c.body))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+c.key)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(body)
}

func TestDevKeepsItsDataAndItsKey(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	first := startDev(t, "--data-dir", dir, "--addr", "127.0.0.1:0")
	code, body := first.calls[0].post(t)
	require.Equal(t, http.StatusCreated, code, body)
	require.Contains(t, body, `"status":"completed"`, "the first line that one pastes works")
	code, body = first.calls[1].post(t)
	require.Equal(t, http.StatusOK, code, body)
	require.Contains(t, body, "TestLead", "and so does the second")
	for _, name := range []string{"dev.key", "key.pepper"} {
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), name)
	}

	// Somebody else who starts on it is told who has it.
	status, _, stderr := obs(t.Context(), "dev", "--data-dir", dir, "--addr", "127.0.0.1:0")
	require.Equal(t, 1, status)
	require.Contains(t, stderr.String(), "another obs is using "+dir)
	require.Equal(t, 1, strings.Count(stderr.String(), "\n"))
	require.Zero(t, first.end(), "%s", first.stderr)

	second := startDev(t, "--data-dir", dir, "--addr", "127.0.0.1:0")
	require.Equal(t, first.key, second.key)
	code, body = second.calls[1].post(t)
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, "TestLead", "what was noted is still there")
	require.Zero(t, second.end(), "%s", second.stderr)

	// A key that lets nobody in gets a successor.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "dev.key"), []byte("obs_wrong\n"), 0o644))
	third := startDev(t, "--data-dir", dir, "--addr", "127.0.0.1:0")
	require.NotEqual(t, "obs_wrong", third.key)
	code, _ = third.calls[1].post(t)
	require.Equal(t, http.StatusOK, code)
	info, err := os.Stat(filepath.Join(dir, "dev.key"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	require.Zero(t, third.end(), "%s", third.stderr)
}

func TestDevPortInUse(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { taken.Close() })
	dir := filepath.Join(openDir(t), "data")
	code, stdout, stderr := obs(t.Context(), "dev", "--data-dir", dir, "--addr", taken.Addr().String())
	require.Equal(t, 1, code)
	require.Empty(t, stdout.String())
	require.Contains(t, stderr.String(), taken.Addr().String()+" is in use by another program; stop that, or choose another --addr")
	require.NoDirExists(t, dir, "nothing was begun")
}

func TestDevDataDirThatIsAFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(openDir(t), "data")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	code, stdout, stderr := obs(t.Context(), "dev", "--data-dir", file, "--addr", "127.0.0.1:0")
	require.Equal(t, 1, code)
	require.Empty(t, stdout.String())
	require.Equal(t, "obs: make the data directory: mkdir "+file+": not a directory; choose another --data-dir (OBS_DATA_DIR)\n", stderr.String())
}

func TestDemoThatFailsNamesAFewJobs(t *testing.T) {
	t.Parallel()
	why := "no room"
	tale := &story{}
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		tale.jobs = append(tale.jobs, seenJob{ID: id, Status: "failed", LastError: &why})
	}
	tale.jobs = append(tale.jobs, seenJob{ID: "f", Status: "completed"})
	require.EqualError(t, tale.outcome(), "5 of 6 jobs are not completed: job a is failed: no room; job b is failed: no room; "+
		"job c is failed: no room; and 2 more")
}

func TestStatusStaysOnOneLineOfATerminal(t *testing.T) {
	t.Parallel()
	out := &output{}
	plain := func(s string) string { return s }
	s := &screen{w: out, live: true, dim: plain, bold: plain}
	s.now("3 jobs")
	s.line("a note")
	s.still()
	status := "\x1b[?7l3 jobs\x1b[?7h"
	require.Equal(t, "\r\x1b[K"+status+"\r\x1b[Ka note\n"+status+"\n", out.String())
}

func TestDemo(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := obs(t.Context(), "demo", "--fast")
	out := stdout.String()
	require.Zero(t, code, "%s\n%s", stderr, out)
	require.Empty(t, stderr.String())
	require.Contains(t, out, "137/137 events | jobs 0 queued, 0 processing, 138 completed, 0 failed")
	require.Contains(t, out, "138 jobs checked, 0 findings")
	require.Contains(t, out, "Request: ")
	require.NotContains(t, out, "Halden", "what stands in privacy tags comes out nowhere")
	dir := regexp.MustCompile(`in (\S+obs-demo-\d+)/pg`).FindStringSubmatch(out)
	require.Len(t, dir, 2)
	require.NoDirExists(t, dir[1])
}

// The same with a model behind each API, and with one that is away and another
// that answers in its place.
func TestDemoWithAProvider(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"openai", "anthropic", "gemini", "anthropic,openai"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			s := llmtest.New(t)
			s.Always(func(w http.ResponseWriter, r *http.Request, q llmtest.Question) {
				if who == "anthropic,openai" && q.API == "anthropic" {
					llmtest.Status(http.StatusUnauthorized, "authentication_error")(w, r, q)
					return
				}
				llmtest.Fine(w, r, q)
			})
			url := "anthropic=" + s.URL + ",openai=" + s.URL
			if !strings.Contains(who, ",") {
				url = s.URL
			}
			code, stdout, stderr := obs(t.Context(), "demo", "--fast", "--provider", who, "--base-url", url)
			require.Zero(t, code, "%s\n%s", stderr, stdout)
			require.Contains(t, stdout.String(), "137/137 events | jobs 0 queued, 0 processing, 138 completed, 0 failed")
			require.Contains(t, stdout.String(), "138 jobs checked, 0 findings")
			require.Contains(t, stdout.String(), "Note on ")
			require.GreaterOrEqual(t, len(s.Asked()), 100)
		})
	}
}

func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	stdout, stderr := &output{}, &output{}
	done := make(chan int, 1)
	go func() { done <- runIn(ctx, stdout, stderr, "demo") }()
	require.Eventually(t, func() bool { return strings.Contains(stdout.String(), "turn 2") }, 3*time.Minute, 20*time.Millisecond)
	cancel()
	select {
	case code := <-done:
		require.Equal(t, 1, code)
	case <-time.After(time.Minute):
		require.Fail(t, "it does not end")
	}
	require.Equal(t, "obs: interrupted\n", stderr.String())
	dir := regexp.MustCompile(`in (\S+obs-demo-\d+)/pg`).FindStringSubmatch(stdout.String())
	require.Len(t, dir, 2)
	require.NoDirExists(t, dir[1])
}

func TestInfoOfDev(t *testing.T) {
	t.Parallel()
	d := startDev(t, "--data-dir", openDir(t), "--addr", "127.0.0.1:0", "--nats-port", "0")
	require.Contains(t, d.stdout.String(), "nats     nats://127.0.0.1:")
	var info struct {
		Postgres   struct{ Initialized bool }
		Broker     struct{ Connected bool }
		Boundaries map[string]struct{ Status string }
	}
	require.Eventually(t, func() bool {
		res, err := http.Get(d.url + "/v1/info")
		require.NoError(t, err)
		defer res.Body.Close()
		require.NoError(t, json.NewDecoder(res.Body).Decode(&info))
		return info.Boundaries["worker"].Status == "active" // it says hello to Postgres first
	}, 3*time.Minute, 20*time.Millisecond)
	require.True(t, info.Postgres.Initialized)
	require.True(t, info.Broker.Connected)
	require.Equal(t, "active", info.Boundaries["relay"].Status)
	require.Zero(t, d.end())
}
