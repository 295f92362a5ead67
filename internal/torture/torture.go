//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// quietWithin is how long the work may take to end once nothing is wrong:
// leases, retries, the broker's redeliveries, on a machine that has much to
// do.
const quietWithin = 4 * time.Minute

// torture is one run.
func torture(ctx context.Context, o options, p plan, stdout io.Writer) (v *verdict, err error) {
	dir, err := os.MkdirTemp(o.Dir, fmt.Sprintf("obs-torture-%d-", o.Seed))
	if err != nil {
		return nil, fmt.Errorf("make the run's folder: %w", err)
	}
	w := &world{size: o.size(), dir: dir, bin: o.Bin}
	v = &verdict{checked: map[string]int{}}
	defer func() { err = errors.Join(err, o.tidy(w, err != nil && ctx.Err() == nil || len(v.found) > 0, stdout)) }()
	if err := os.Chmod(dir, 0o755); err != nil { // Postgres runs as another user, for root
		return v, fmt.Errorf("make the run's folder: %w", err)
	}
	if w.bin == "" {
		fmt.Fprintln(stdout, "building the programs")
		w.bin = filepath.Join(dir, "bin")
		if err := build(ctx, w.bin, o.Race); err != nil {
			return v, err
		}
	}
	defer func() { err = errors.Join(err, w.stop()) }() //nolint:contextcheck // it has to happen after ctx has ended
	if err := w.start(ctx, o.Tenants); err != nil {
		return v, fmt.Errorf("start: %w", err)
	}
	rec, err := newRecord(filepath.Join(dir, "calls.jsonl"))
	if err != nil {
		return v, err
	}
	log, err := os.Create(filepath.Join(dir, "run.log"))
	if err != nil {
		return v, err
	}
	defer log.Close()
	head := fmt.Sprintf("go run ./internal/torture --seed %d --duration %v --nodes %d --tenants %d --rate %d --apis %d --relays %d --workers %d\n\n%s",
		o.Seed, o.Duration, o.Nodes, o.Tenants, o.Rate, o.APIs, o.Relays, o.Workers, p)
	if err := os.WriteFile(filepath.Join(dir, "plan.txt"), []byte(head), 0o644); err != nil {
		return v, err
	}
	r := &runner{o: o, w: w, v: v, rec: rec, log: log, out: newScreen(stdout)}
	r.in = &injector{w: w, tell: r.tell}
	r.load = newLoad(w.apiURLs(), w.tenants, rec, o.Seed, o.Rate)
	return v, r.run(ctx, p)
}

// tidy removes what a run has left, but for what shows what was found.
func (o options) tidy(w *world, failed bool, stdout io.Writer) error {
	switch {
	case o.Keep:
	case !failed:
		return os.RemoveAll(w.dir)
	default:
		heavy := []string{filepath.Join(w.dir, "bin"), filepath.Join(w.dir, "postgres")}
		for i := range w.nodes {
			heavy = append(heavy, w.storeOf(i), w.storeOf(i)+".older")
		}
		for _, path := range heavy {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	fmt.Fprintf(stdout, "kept: %s\n", w.dir)
	return nil
}

// runner does the steps of a run.
type runner struct {
	o    options
	w    *world
	v    *verdict
	in   *injector
	load *load
	rec  *record
	log  io.Writer
	out  *screen
}

func (r *runner) tell(format string, args ...any) {
	fmt.Fprintf(r.log, "%9.3fs  %s\n", r.rec.now().Seconds(), strings.TrimSpace(fmt.Sprintf(format, args...)))
}

func (r *runner) run(ctx context.Context, p plan) error {
	working, stop := context.WithTimeout(ctx, r.o.Duration)
	defer stop()
	loaded, injected, shown := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() { defer close(loaded); r.load.run(working) }()
	go func() { defer close(injected); r.in.run(ctx, p, r.rec.began) }()
	showing, enough := context.WithCancel(ctx)
	go func() { defer close(shown); r.show(showing, len(p)) }()
	<-working.Done()
	<-loaded
	<-injected
	enough()
	<-shown
	if err := r.in.heal(); err != nil {
		return err
	}
	r.tell("healed")
	if ctx.Err() != nil {
		return errInterrupted
	}
	r.out.line("all faults are over, waiting for quiet")
	began := time.Now()
	settling, cancel := context.WithTimeout(ctx, quietWithin)
	defer cancel()
	if err := r.load.settle(settling); err != nil {
		r.v.add(checkedAnswered, "", "%v", err)
	}
	if err := r.w.quiet(settling, quietWithin); err != nil {
		r.v.add(checkedQuiet, "", "after %v: %v", quietWithin, err)
	}
	r.v.checked[checkedQuiet] = 1
	r.out.line("quiet after %v", time.Since(began).Round(100*time.Millisecond))
	r.load.readAll(ctx)
	calls, err := r.rec.close()
	if err != nil {
		return err
	}
	r.v.checked[checkedAnswered] = len(calls)
	if err := r.w.plant(ctx, r.o.Plant); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return errInterrupted
	}
	r.v.checked[checkedFaults] = len(p)
	for _, err := range r.in.faults {
		r.v.add(checkedFaults, "", "%v", err)
	}
	if err := r.w.verify(ctx, r.v, calls); err != nil {
		return err
	}
	return r.report()
}

// plants is what --plant can break, to see that the checks find it.
var plants = map[string]string{
	"history": `DELETE FROM observation_generation_job_events WHERE (job_id, version) = (
		SELECT id, 2 FROM observation_generation_jobs WHERE status = 'completed' ORDER BY id LIMIT 1)`,
	"effect": `UPDATE observations SET generation_key = 'of a lost attempt' WHERE id = (
		SELECT id FROM observations WHERE created_by_job_id IS NOT NULL ORDER BY id LIMIT 1)`,
	"job": `DELETE FROM observation_generation_jobs WHERE id = (
		SELECT id FROM observation_generation_jobs WHERE status = 'cancelled' OR status = 'failed' ORDER BY id LIMIT 1)`,
	"memory": `DELETE FROM observations WHERE id = (SELECT id FROM observations WHERE created_by_job_id IS NULL ORDER BY id LIMIT 1)`,
}

func (w *world) plant(ctx context.Context, names []string) error {
	for _, name := range names {
		tag, err := w.pool.Exec(ctx, plants[name])
		if err == nil && tag.RowsAffected() == 0 {
			err = errors.New("there is nothing to break")
		}
		if err != nil {
			return fmt.Errorf("plant %s: %w", name, err)
		}
	}
	return nil
}
