//go:build unix

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// proc is one program that is started again whenever it ends, as whoever runs
// it in earnest would, unless a fault holds it down.
type proc struct {
	name string
	path string
	args []string
	env  []string
	log  string // the file of what it prints

	mu       sync.Mutex
	cmd      *exec.Cmd     // nil while it is down
	gone     chan struct{} // closed when cmd is gone
	held     int           // faults that keep it down
	over     bool
	change   chan struct{} // something of the above changed
	done     chan struct{} // closed when it is over and gone
	starts   int
	surprise []string // how it ended when nobody asked it to
}

// supervise starts the program and keeps it running.
func supervise(name, path, logFile string, env []string, args ...string) *proc {
	p := &proc{name: name, path: path, args: args, env: env, log: logFile, change: make(chan struct{}, 1), done: make(chan struct{})}
	go p.run()
	return p
}

const restartAfter = 200 * time.Millisecond

func (p *proc) run() {
	defer close(p.done)
	// The kernel kills the child when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		p.mu.Lock()
		over, held := p.over, p.held > 0
		p.mu.Unlock()
		switch {
		case over:
			return
		case held:
			<-p.change
		default:
			p.once()
		}
	}
}

// once runs the program until it ends.
func (p *proc) once() {
	out, err := os.OpenFile(p.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		defer out.Close()
		cmd := exec.Command(p.path, p.args...) //nolint:noctx // it is ended by signals
		cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = out, out, attr()
		cmd.Env = append(cmd.Environ(), p.env...)
		p.mu.Lock()
		if p.over || p.held > 0 {
			p.mu.Unlock()
			return
		}
		if err = cmd.Start(); err == nil {
			p.cmd, p.gone = cmd, make(chan struct{})
			p.starts++
		}
		p.mu.Unlock()
		if err == nil {
			err = cmd.Wait()
		}
	}
	p.mu.Lock()
	if !p.over && p.held == 0 {
		p.surprise = append(p.surprise, fmt.Sprintf("%s: %v", p.name, err))
	}
	if p.cmd != nil {
		close(p.gone)
	}
	p.cmd = nil
	p.mu.Unlock()
	time.Sleep(restartAfter) //nolint:forbidigo // a supervisor's patience
}

func (p *proc) told() {
	select {
	case p.change <- struct{}{}:
	default:
	}
}

// down ends the program with the signal and keeps it down until up is called.
// It reports whether the program ended within the time; if not, it was killed.
func (p *proc) down(sig syscall.Signal, within time.Duration) (inTime bool) {
	p.mu.Lock()
	p.held++
	gone := p.signal(sig)
	p.mu.Unlock()
	if gone == nil {
		return true
	}
	select {
	case <-gone:
		return true
	case <-time.After(within):
	}
	p.mu.Lock()
	p.signal(syscall.SIGKILL)
	p.mu.Unlock()
	<-gone
	return false
}

// up undoes one down.
func (p *proc) up() {
	p.mu.Lock()
	p.held--
	p.mu.Unlock()
	p.told()
}

// send signals the program if it runs.
func (p *proc) send(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.signal(sig)
}

// signal is called under mu. It gives what is closed once the program is
// gone, nil when it does not run.
func (p *proc) signal(sig syscall.Signal) chan struct{} {
	if p.cmd == nil {
		return nil
	}
	_ = p.cmd.Process.Signal(sig) // it may just have ended
	return p.gone
}

// end kills the program for good.
func (p *proc) end() {
	p.mu.Lock()
	p.over = true
	p.signal(syscall.SIGCONT)
	p.signal(syscall.SIGKILL)
	p.mu.Unlock()
	p.told()
	<-p.done
}

// crashed looks in the log for what no fault of others excuses.
func (p *proc) crashed() string {
	text, err := os.ReadFile(p.log)
	if errors.Is(err, os.ErrNotExist) {
		return ""
	}
	for _, sign := range []string{"\npanic: ", "\nfatal error: ", "WARNING: DATA RACE"} {
		if i := bytes.Index(append([]byte("\n"), text...), []byte(sign)); i >= 0 {
			part := text[max(i-1, 0):min(len(text), i+600)]
			return string(bytes.TrimSpace(part))
		}
	}
	return ""
}

func (p *proc) surprises() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.surprise
}
