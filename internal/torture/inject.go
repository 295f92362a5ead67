//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-245eaa15/obs/internal/netfault"
)

// mood is what the workers' provider is like; see cmd/internal/boot.
type mood struct {
	SlowMS  int     `json:"slowMs"`
	Busy    float64 `json:"busy"`
	Refused float64 `json:"refused"`
	Panics  float64 `json:"panics"`
}

var (
	usualMood = mood{SlowMS: 60, Busy: 0.02, Refused: 0.01, Panics: 0.005}
	slowMood  = mood{SlowMS: 5000, Busy: 0.02, Refused: 0.01, Panics: 0.005}
	busyMood  = mood{SlowMS: 60, Busy: 0.8, Panics: 0.005}
)

func (w *world) setMood(m mood) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	temp := w.mood + ".new"
	if err := os.WriteFile(temp, text, 0o644); err != nil {
		return fmt.Errorf("set the provider's mood: %w", err)
	}
	return os.Rename(temp, w.mood)
}

// injector does what the plan says.
type injector struct {
	w    *world
	tell func(format string, args ...any) // the run's log

	mu     sync.Mutex
	places map[string]*sync.Mutex
	done   map[string]int // faults, by kind and part
	missed map[string]int // those that found nothing to happen to
	faults []error        // what should have worked
}

// run does the whole plan and returns when every fault is over, or soon after
// ctx has ended.
func (in *injector) run(ctx context.Context, p plan, began time.Time) {
	in.places, in.done, in.missed = map[string]*sync.Mutex{}, map[string]int{}, map[string]int{}
	var all sync.WaitGroup
	for _, f := range p {
		if !pause(ctx, time.Until(began.Add(f.At))) {
			break
		}
		all.Go(func() {
			for _, place := range places(f) { // the one before may take longer than planned
				mu := in.place(place)
				mu.Lock()
				defer mu.Unlock()
			}
			in.tell("fault %s", f)
			err := in.do(ctx, f)
			in.tell("over  %-16s %-22s %v", f.Kind, f.On, err)
			in.count(f, err)
		})
	}
	all.Wait()
}

func (in *injector) place(name string) *sync.Mutex {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.places[name] == nil {
		in.places[name] = &sync.Mutex{}
	}
	return in.places[name]
}

// errBroken is a fault that shows that something is wrong.
var errBroken = errors.New("broken")

func (in *injector) count(f fault, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	name := f.name()
	switch {
	case errors.Is(err, errBroken):
		in.faults = append(in.faults, err)
		in.done[name]++
	case err != nil:
		in.missed[name]++
	default:
		in.done[name]++
	}
}

// name is the fault without the number of its target.
func (f fault) name() string {
	part, to, isLink := strings.Cut(f.On, ":")
	part, _, _ = strings.Cut(part, "-")
	if isLink {
		return f.Kind + " " + part + " ↔ " + to
	}
	if f.On == partNATS || f.On == partPostgres || f.On == partProvider || part == partNATS {
		return part + ": " + f.Kind
	}
	return f.Kind + " " + part
}

func (in *injector) do(ctx context.Context, f fault) error {
	if links := in.w.links[f.On]; links != nil {
		return onLinks(ctx, f, links)
	}
	part, number, _ := strings.Cut(f.On, "-")
	switch {
	case part == partPostgres:
		return in.onPostgres(ctx, f)
	case part == partProvider:
		next := slowMood
		if f.Kind == busyProvider {
			next = busyMood
		}
		err := in.w.setMood(next)
		pause(ctx, f.For)
		return errors.Join(err, in.w.setMood(usualMood))
	case part == partNATS && number == "":
		return in.onStreams(ctx, f)
	default:
		return in.onProcess(ctx, f)
	}
}

func onLinks(ctx context.Context, f fault, links []*netfault.Proxy) error {
	for _, p := range links {
		switch f.Kind {
		case cutLink:
			p.Cut()
		case halfOpenLink, loseLink:
			p.HalfOpen()
		case holdAnswers:
			p.HoldAnswers()
		case delayLink:
			p.Delay(f.For / 40)
		}
	}
	pause(ctx, f.For)
	for _, p := range links {
		if f.Kind == holdAnswers || f.Kind == loseLink {
			p.Reset()
		}
		p.Heal()
	}
	return nil
}

// endsWithin is how long a program may take to end after SIGTERM: the
// worker's grace, and what else may hang.
const endsWithin = 40 * time.Second

func (in *injector) onProcess(ctx context.Context, f fault) error {
	p := in.w.byName[f.On]
	switch f.Kind {
	case killProcess:
		p.down(syscall.SIGKILL, time.Minute)
		pause(ctx, f.For)
		p.up()
	case endProcess:
		inTime := p.down(syscall.SIGTERM, endsWithin)
		pause(ctx, f.For)
		p.up()
		if !inTime {
			return fmt.Errorf("%w: %s did not end within %v of SIGTERM", errBroken, f.On, endsWithin)
		}
	case freezeProcess:
		p.send(syscall.SIGSTOP)
		pause(ctx, f.For)
		p.send(syscall.SIGCONT)
	case killTwo:
		n, err := strconv.Atoi(strings.TrimPrefix(f.On, "nats-"))
		if err != nil {
			return err
		}
		other := in.w.byName[in.w.node(n%in.w.nodes)]
		p.down(syscall.SIGKILL, time.Minute)
		other.down(syscall.SIGKILL, time.Minute)
		pause(ctx, f.For)
		p.up()
		other.up()
	}
	return nil
}

func (in *injector) onPostgres(ctx context.Context, f fault) error {
	w := in.w
	if f.Kind == cutSessions {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		_, err := w.pool.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name <> 'torture'`)
		return err
	}
	sig := syscall.SIGKILL
	if f.Kind == crashPostgres {
		sig = syscall.SIGQUIT
	}
	text, err := os.ReadFile(filepath.Join(w.dir, "postgres", "pg", "postmaster.pid"))
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, sig); err != nil {
		return err
	}
	select {
	case <-w.postgres.Done():
	case <-time.After(time.Minute):
		return fmt.Errorf("%w: Postgres did not end within a minute of signal %d", errBroken, sig)
	}
	pause(ctx, f.For)
	bare := context.WithoutCancel(ctx)
	if err := w.postgres.Stop(bare); err != nil {
		return fmt.Errorf("%w: tidy up after Postgres: %w", errBroken, err)
	}
	if err := w.startPostgres(bare); err != nil {
		return fmt.Errorf("%w: start Postgres again: %w", errBroken, err)
	}
	return nil
}

// lost notes that EVENTS may lack what happened up to now.
func (w *world) lost() {
	w.lostMu.Lock()
	defer w.lostMu.Unlock()
	w.lostUntil = time.Now()
}

func (in *injector) onStreams(ctx context.Context, f fault) error {
	w := in.w
	if f.Kind == rollBack {
		return in.rollBack(ctx, f)
	}
	return w.withJetStream(ctx, func(ctx context.Context, js jetstream.JetStream) error {
		switch f.Kind {
		case deleteJobs:
			return js.DeleteStream(ctx, "JOBS")
		case deleteEvents:
			defer w.lost() // also when the answer got lost
			return js.DeleteStream(ctx, "EVENTS")
		case purgeJobs:
			stream, err := js.Stream(ctx, "JOBS")
			if err != nil {
				return err
			}
			return stream.Purge(ctx)
		case deleteLanes:
			stream, err := js.Stream(ctx, "JOBS")
			if err != nil {
				return err
			}
			for name := range stream.ConsumerNames(ctx).Name() {
				err = errors.Join(err, stream.DeleteConsumer(ctx, name))
			}
			return err
		case stepDown:
			var err error
			for _, stream := range []string{"JOBS", "EVENTS"} {
				_, e := js.Conn().RequestWithContext(ctx, "$JS.API.STREAM.LEADER.STEPDOWN."+stream, nil)
				err = errors.Join(err, e)
			}
			if errors.Is(err, nats.ErrNoResponders) {
				return fmt.Errorf("nobody leads: %w", err)
			}
			return err
		}
		return fmt.Errorf("%w: nobody knows the fault %s", errBroken, f)
	})
}

// rollBack lets the broker forget what it has learned for a while, as when a
// disk loses what was said to be on it, or a copy is restored.
func (in *injector) rollBack(ctx context.Context, f fault) error {
	p, store := in.w.byName[in.w.node(0)], in.w.storeOf(0)
	older := store + ".older"
	p.down(syscall.SIGKILL, time.Minute)
	err := errors.Join(os.RemoveAll(older), os.CopyFS(older, os.DirFS(store)))
	p.up()
	if err != nil {
		return fmt.Errorf("%w: copy the broker's directory: %w", errBroken, err)
	}
	pause(ctx, f.For)
	p.down(syscall.SIGKILL, time.Minute)
	in.w.lost()
	err = errors.Join(os.RemoveAll(store), os.Rename(older, store))
	p.up()
	if err != nil {
		return fmt.Errorf("%w: set the broker back: %w", errBroken, err)
	}
	return nil
}

// heal makes sure that nothing is wrong any more, whatever the faults left.
func (in *injector) heal() error {
	for _, links := range in.w.links {
		for _, p := range links {
			p.Heal()
		}
	}
	for _, p := range in.w.procs {
		p.send(syscall.SIGCONT)
	}
	return in.w.setMood(usualMood)
}
