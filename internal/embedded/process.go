package embedded

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a server running as our child.
type process struct {
	cmd    *exec.Cmd
	pid    int
	output *logTail
	exited chan struct{} // closed once the process is gone and waited for
}

// startProcess starts a program as the given identity in a process group of its own, so that Ctrl-C reaches us
// first, and (on Linux) so that it is interrupted when we die. It outlives ctx.
func startProcess(ctx context.Context, log *slog.Logger, program string, args []string, dir string, as identity) (*process, error) {
	output := &logTail{log: log}
	cmd := command(context.WithoutCancel(ctx), program, args, dir, as)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.WaitDelay = time.Second // a stray grandchild may keep the pipe open
	p := &process{cmd: cmd, output: output, exited: make(chan struct{})}

	started := make(chan error, 1)
	go func() {
		// The kernel sends the death signal when the thread that started the child ends: this goroutine keeps
		// its thread until the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in its log
			close(p.exited)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// end interrupts the process (for PostgreSQL: a fast, clean shutdown), waits, and becomes rougher. It returns
// when the process is gone, and reports whether the first signal was enough.
func (p *process) end(ctx context.Context) (clean bool) {
	_ = p.cmd.Process.Signal(os.Interrupt) // here and below an error means that it is gone already
	if p.gone(ctx, stopWithin) {
		return true
	}
	_ = p.cmd.Process.Signal(syscall.SIGQUIT)
	if p.gone(context.WithoutCancel(ctx), quitWithin) { // beyond the caller's patience, but in order
		return false
	}
	_ = p.cmd.Process.Kill()
	<-p.exited
	return false
}

func (p *process) gone(ctx context.Context, within time.Duration) bool {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-p.exited:
		return true
	case <-ctx.Done():
	case <-timer.C:
	}
	return false
}

// command prepares a PostgreSQL program: the environment's PG… and locale variables would change what it does.
func command(ctx context.Context, program string, args []string, dir string, as identity) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.SysProcAttr = procAttr(as)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "PG") || strings.HasPrefix(v, "LC_") || strings.HasPrefix(v, "LANG")
	})
	cmd.Env = append(cmd.Env, "LC_ALL=C")
	return cmd
}

// run runs a command to its end and returns what it printed. Like a server it has a death signal, so nothing else
// may use, and end, its thread meanwhile.
func run(cmd *exec.Cmd) ([]byte, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return cmd.CombinedOutput()
}

// logTail passes a server's lines on and keeps the last ones for an error message.
type logTail struct {
	log *slog.Logger

	mu      sync.Mutex
	partial []byte
	lines   []string
}

const keepLines = 20

func (l *logTail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = append(l.partial, p...)
	for {
		line, rest, found := bytes.Cut(l.partial, []byte("\n"))
		if !found {
			return len(p), nil
		}
		l.add(strings.TrimSpace(string(line)))
		l.partial = rest
	}
}

func (l *logTail) add(line string) {
	if line == "" {
		return
	}
	l.log.Debug("postgres", "line", line)
	if len(l.lines) == keepLines {
		l.lines = slices.Delete(l.lines, 0, 1)
	}
	l.lines = append(l.lines, line)
}

// tail is what the server said last, in one line: its complaints if it made any, else its last words.
func (l *logTail) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	complaints := slices.DeleteFunc(slices.Clone(l.lines), func(line string) bool {
		kind, _, _ := strings.Cut(line, ":")
		return kind == "LOG" || kind == "WARNING" || kind == "NOTICE" || !strings.Contains(line, ":")
	})
	switch {
	case len(complaints) > 0:
		return strings.Join(complaints[max(0, len(complaints)-4):], "; ")
	case len(l.lines) > 0:
		return strings.Join(l.lines[max(0, len(l.lines)-2):], "; ")
	default:
		return "nothing"
	}
}
