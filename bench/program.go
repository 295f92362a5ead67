package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type counter = atomic.Int64

const (
	startWithin = 60 * time.Second
	endWithin   = 15 * time.Second
)

// program is another program that we have started. It is in a process group of its own, so that Ctrl-C reaches us
// first, and it ends when we do, however that happens (on Linux).
type program struct {
	name string // as it is metered
	url  string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *tail
	done chan struct{}
}

func start(name, path string, args ...string) (*program, error) {
	return startIn("", nil, name, path, args...)
}

// startIn is start in a folder and with an environment. The program lives until it is ended.
func startIn(dir string, environ []string, name, path string, args ...string) (*program, error) {
	p := &program{name: name, cmd: exec.CommandContext(context.Background(), path, args...), out: &tail{news: make(chan string, 16)}, done: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env = dir, environ
	p.cmd.Stderr = p.out
	p.cmd.SysProcAttr = ownGroup()
	p.cmd.WaitDelay = time.Second
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	started := make(chan error, 1)
	go func() {
		// The kernel sends the death signal when the thread that started the child ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.out.read(stdout)
		_ = p.cmd.Wait() // how it ended is in what it printed
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(path), err)
	}
	return p, nil
}

func (p *program) pid() int { return p.cmd.Process.Pid }

// end asks the program to end, and makes it when it does not.
func (p *program) end() {
	_ = p.in.Close()
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // an error means that it is gone
	select {
	case <-p.done:
	case <-time.After(endWithin):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// ready waits until the program answers.
func (p *program) ready(ctx context.Context, answers func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !answers() {
		select {
		case <-p.done:
			return p.failure("has ended")
		case <-ctx.Done():
			return errors.Join(p.failure("does not answer"), context.Cause(ctx))
		case <-tick.C:
		}
	}
	return nil
}

// line is the next line that the program prints.
func (p *program) line(ctx context.Context) (string, error) {
	select {
	case line, ok := <-p.out.news:
		if !ok {
			return "", p.failure("has ended")
		}
		return line, nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

func (p *program) failure(what string) error {
	return fmt.Errorf("%s %s: %s", filepath.Base(p.cmd.Path), what, p.out)
}

// tail keeps the last that a program has printed. Lines of its standard output are news too, for who reads them.
type tail struct {
	news chan string

	mu    sync.Mutex
	lines []string
}

func (t *tail) read(r io.Reader) {
	defer close(t.news)
	for s := bufio.NewScanner(r); s.Scan(); {
		t.keep(s.Text())
		select {
		case t.news <- s.Text():
		default: // nobody reads
		}
	}
}

func (t *tail) Write(b []byte) (int, error) {
	t.keep(string(b))
	return len(b), nil
}

func (t *tail) keep(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == 20 {
		t.lines = t.lines[1:]
	}
	t.lines = append(t.lines, strings.TrimSpace(line))
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines[max(0, len(t.lines)-6):], " | ")
}
