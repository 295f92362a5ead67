package boot_test

import (
	"bytes"
	"context"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
	"github.com/seed-245eaa15/obs/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// output collects what a program writes.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func (o *output) lines() []string { return strings.Split(strings.TrimSuffix(o.String(), "\n"), "\n") }

// std is a terminal with these variables, and what is written to it.
func std(env map[string]string, args ...string) (s boot.Std, stdout, stderr *output) {
	stdout, stderr = &output{}, &output{}
	lookup := func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	}
	return boot.Std{Args: args, LookupEnv: lookup, Stdin: strings.NewReader(""), Stdout: stdout, Stderr: stderr}, stdout, stderr
}

// freeAddr is an address at which nobody listens.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

// connect opens links to a database and a broker of the test's own.
func connect(t *testing.T, c boot.Config) *boot.Links {
	t.Helper()
	links, err := boot.Connect(t.Context(), c, "test", testenv.Log(t), nil)
	require.NoError(t, err)
	t.Cleanup(links.Close)
	return links
}

func worker(ctx context.Context, env map[string]string, args ...string) (code int, stderr *output) {
	s, _, stderr := std(env, args...)
	var cli struct{ boot.WorkerFlags }
	command, err := boot.Parse(ctx, s, "obs-worker", "about", boot.DefaultWorkerAddr, &cli)
	if err == nil && command != nil {
		err = cli.Run(ctx, s)
	}
	return boot.Exit(s, "obs-worker", err), stderr
}
