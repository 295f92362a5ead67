package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
)

type serverStart struct {
	Timeout time.Duration `default:"60s" placeholder:"TIME" help:"How long to wait until it is healthy."`
	devCommand
}

func (serverStart) Help() string {
	return `Runs what obs dev runs, in the background: API, relay and worker, on Postgres and NATS of its own or on yours with
--database-url and --nats-url. It returns when all of it is healthy. The log is server.log in the data directory.

Examples:

  obs server start
  obs server start --data-dir ./data --addr 127.0.0.1:8080
  obs server start --database-url postgres://me@localhost/obs`
}

func (c serverStart) Run(ctx context.Context, std boot.Std, k *kong.Context) error {
	if _, _, err := c.load(); err != nil { // told here, not in the log
		return err
	}
	dir, err := c.dir(std)
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	if err != nil {
		return err
	}
	if err := boot.InUse(dir); err != nil {
		return err
	}
	how := howStarted(std, k, true)
	return launch(ctx, std, dir, how.Dir, how.Flags, c.Timeout)
}

// launch starts the server in the background and waits until it is healthy.
func launch(ctx context.Context, std boot.Std, dir, from string, flags []string, timeout time.Duration) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	began := time.Now()
	child, err := startChild(dir, from, flags)
	if err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	s, err := child.healthy(wait, std.Stdout)
	switch {
	case err == nil:
		fmt.Fprintf(std.Stdout, "obs is up at %s (%.1f s, pid %d)\n", s.URL(), time.Since(began).Seconds(), s.PID)
		fmt.Fprintf(std.Stdout, "  key  %s\n  log  %s\n", filepath.Join(dir, keyFile), child.log)
		return nil
	case ctx.Err() != nil: // nobody waits for it any more
		_ = child.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
		return errors.New("interrupted")
	case wait.Err() != nil:
		return fmt.Errorf("it is not healthy after %s (%w); it goes on trying: see obs server status and stop; the end of %s: %s",
			timeout, err, child.log, child.lastLines())
	}
	return err
}

// child is the server that was started here.
type child struct {
	cmd    *exec.Cmd
	dir    string
	log    string
	offset int64         // of the log when it was started
	ended  chan struct{} // closed when it has ended
}

func startChild(dir, from string, flags []string) (*child, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start the server: %w", err)
	}
	c := &child{dir: dir, log: logPath(dir), ended: make(chan struct{})}
	log, err := boot.OpenLogFile(c.log)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own
	if c.offset, err = log.Seek(0, io.SeekEnd); err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	c.cmd = exec.Command(program, append([]string{"server", "background", "--data-dir=" + dir}, flags...)...) //nolint:noctx // it outlives us
	c.cmd.Dir, c.cmd.Stdout, c.cmd.Stderr, c.cmd.SysProcAttr = from, log, log, boot.Detached()
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the server: %w", err)
	}
	go func() {
		_ = c.cmd.Wait() // why it ended is in its log
		close(c.ended)
	}()
	return c, nil
}

// progressEvery is how often somebody who waits is told what is done.
const progressEvery = 2 * time.Second

// healthy waits until the server says that all is well. When ctx ends before,
// the error is what is not well yet.
func (c *child) healthy(ctx context.Context, progress io.Writer) (*boot.Server, error) {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	began := time.Now()
	for {
		s, err := boot.FindServer(c.dir)
		switch {
		case err == nil && s.PID != c.cmd.Process.Pid:
			err = boot.InUse(c.dir) // another one was faster; ours is about to see that too
		case err == nil && len(s.Boundaries) == 0:
			err = errors.New("not all of its parts run") // it listens, and does not answer before they do
		case err == nil:
			var h healthSeen
			if h, err = askHealth(ctx, s.URL()); err == nil && h.Status == "ok" {
				return s, nil
			}
			if err == nil {
				err = errors.New(strings.Join(h.Reasons, "; "))
			} else {
				err = errors.New("it does not answer yet")
			}
		case errors.Is(err, boot.ErrNoServer):
			err = errors.New("it has not begun to listen")
		}
		select {
		case <-c.ended:
			return nil, fmt.Errorf("the server has ended: %s (the log is %s)", c.lastLines(), c.log)
		case <-ctx.Done():
			return nil, err
		case <-tick.C:
			fmt.Fprintln(progress, cut(fmt.Sprintf("obs: starting, %d s: %s", int(time.Since(began).Seconds()), c.lastLine()), wide))
		case <-time.After(lookEvery):
		}
	}
}

// tailSize is how much of the end of the log is read, in bytes.
const tailSize = 4 << 10

// tail is the end of what the log has of this start.
func (c *child) tail() []string {
	f, err := os.Open(c.log)
	if err != nil {
		return nil
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil
	}
	from := max(min(c.offset, end), end-tailSize)
	text := make([]byte, end-from)
	n, _ := f.ReadAt(text, from) // what can be read is enough
	lines := bytes.Split(bytes.TrimSpace(text[:n]), []byte("\n"))
	all := make([]string, 0, len(lines))
	for _, l := range lines {
		all = append(all, string(l))
	}
	return all
}

// lastLines are the last five lines, or those of the error that ended it.
func (c *child) lastLines() string {
	lines := c.tail()
	for i, l := range lines {
		if strings.HasPrefix(l, "obs: ") {
			return strings.TrimPrefix(strings.Join(lines[i:], "; "), "obs: ")
		}
	}
	return strings.Join(lines[max(0, len(lines)-5):], "\n  ")
}

func (c *child) lastLine() string {
	lines := c.tail()
	if len(lines) == 0 || lines[len(lines)-1] == "" {
		return "nothing in the log yet"
	}
	last := lines[len(lines)-1]
	if _, what, ok := strings.Cut(last, "doing="); ok {
		return strings.Trim(what, `"`)
	}
	return last
}

// healthSeen is what we read of /api/health.
type healthSeen struct {
	Status  string   `json:"status"`
	Reasons []string `json:"reasons"`
	Runtime string   `json:"runtime"`
	Version string   `json:"version"`
	Uptime  int64    `json:"uptime"` // seconds
	PID     int      `json:"pid"`
}

// askWithin is how long a server may take to tell how it is.
const askWithin = 5 * time.Second

func askHealth(ctx context.Context, base string) (healthSeen, error) {
	var h healthSeen
	err := ask(ctx, base+"/api/health", &h)
	return h, err
}

// ask reads a JSON answer: a server that is not well answers 503, and that
// counts too.
func ask(ctx context.Context, url string, out any) error {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusServiceUnavailable {
		return fmt.Errorf("%s: %s", url, res.Status)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return err
	}
	return decode(body, out)
}
