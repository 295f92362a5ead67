//go:build unix

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/embedded"
	"github.com/seed-245eaa15/obs/internal/observe"
)

// What is checked, besides the invariants of obs check.
const (
	checkedEffects  = "effects"
	checkedLinear   = "I15 order"
	checkedAnswers  = "I15 answers"
	checkedMemories = "I15 memories"
	checkedQuiet    = "quiet"
	checkedAnswered = "answered"
	checkedNo500    = "no 500"
	checkedPrograms = "programs"
	checkedFaults   = "faults"
)

// finding is a violation.
type finding struct {
	check string
	job   string // empty: of no one job
	text  string
}

func (f finding) String() string {
	if f.job == "" {
		return fmt.Sprintf("%s: %s", f.check, f.text)
	}
	return fmt.Sprintf("%s: job %s: %s", f.check, f.job, f.text)
}

// verdict is what a run came to.
type verdict struct {
	checked  map[string]int // how many things each check looked at
	found    []finding
	jobs     ledger
	calls    map[string][]call
	drawings []string
}

func (v *verdict) add(check, job, format string, args ...any) {
	v.found = append(v.found, finding{check, job, fmt.Sprintf(format, args...)})
}

// left is the work that is not done.
type left struct{ jobs, asks, feed int }

func (w *world) left(ctx context.Context) (l left, err error) {
	err = w.pool.QueryRow(ctx, `SELECT
		(SELECT count(*) FROM observation_generation_jobs WHERE status IN ('queued', 'processing')),
		(SELECT count(*) FROM outbox), (SELECT count(*) FROM job_feed)`).Scan(&l.jobs, &l.asks, &l.feed)
	return l, err
}

// quiet waits until nothing is left to do.
func (w *world) quiet(ctx context.Context, limit time.Duration) error {
	return w.within(ctx, limit, "all work is done", func(ctx context.Context) error {
		now, err := w.left(ctx)
		if err == nil && now != (left{}) {
			err = fmt.Errorf("%d jobs, %d asks and %d events for followers are left", now.jobs, now.asks, now.feed)
		}
		return err
	})
}

// verify looks at what the run has left behind, once all is quiet.
func (w *world) verify(ctx context.Context, v *verdict, calls []call) error {
	if err := w.obsCheck(ctx, v); err != nil {
		return err
	}
	v.jobs = ledger{}
	_, err := db.NewJobs(w.pool, db.JobsConfig{}).Check(ctx, db.CheckConfig{Job: func(j events.Job, h []events.Event) {
		v.jobs[string(j.ID)] = history{j, h}
	}})
	if err != nil {
		return err
	}
	for _, p := range w.procs {
		v.checked[checkedPrograms]++
		if said := p.crashed(); said != "" {
			v.add(checkedPrograms, "", "%s crashed: %s", p.name, said)
		}
	}
	if err := w.verifyEffects(ctx, v); err != nil {
		return err
	}
	w.verifyAnswers(v, calls)
	if err := w.verifyMemories(ctx, v, calls); err != nil {
		return err
	}
	return w.verifyOrder(v)
}

// checksWithin is how long the last acknowledgements may take: one that was
// lost is made good by a redelivery, after the consumers' AckWait.
const checksWithin = 75 * time.Second

// obsCheck is obs check, the program.
func (w *world) obsCheck(ctx context.Context, v *verdict) error {
	args := []string{
		"check", "--quiet-system", "--json", "--database-url", w.postgres.URL(embedded.Database),
		"--nats-url", w.natsURL(), "--lease", lease.String(),
	}
	if !w.lostUntil.IsZero() {
		args = append(args, "--events-since", w.lostUntil.Format(time.RFC3339Nano))
	}
	var said struct {
		Jobs     int
		Findings []struct{ Invariant, Subject, Text string }
	}
	deadline := time.Now().Add(checksWithin)
	for {
		cmd := exec.CommandContext(ctx, filepath.Join(w.bin, "obs"), args...)
		out, err := cmd.Output()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && (exit.ExitCode() != 1 || len(out) == 0) || err != nil && !ok {
			if time.Now().After(deadline) {
				return fmt.Errorf("obs check: %w: %s", err, stderrOf(err))
			}
		} else {
			if err := json.Unmarshal(out, &said); err != nil {
				return fmt.Errorf("read what obs check says: %w", err)
			}
			mends := true // only acknowledgements on their way mend themselves
			for _, f := range said.Findings {
				mends = mends && f.Invariant == "I11"
			}
			if len(said.Findings) == 0 || !mends || time.Now().After(deadline) {
				break
			}
		}
		if !pause(ctx, time.Second) {
			return ctx.Err()
		}
	}
	for i := 1; i <= 16; i++ {
		if i != 15 {
			v.checked[fmt.Sprintf("I%d", i)] = said.Jobs
		}
	}
	for _, f := range said.Findings {
		kind, id, _ := strings.Cut(f.Subject, " ")
		if kind != "job" {
			v.add(f.Invariant, "", "%s: %s", f.Subject, f.Text)
			continue
		}
		v.add(f.Invariant, id, "%s", f.Text)
	}
	return nil
}

func stderrOf(err error) string {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return strings.TrimSpace(string(exit.Stderr))
	}
	return ""
}

func (w *world) verifyEffects(ctx context.Context, v *verdict) error {
	file, err := os.Open(w.effects)
	if errors.Is(err, os.ErrNotExist) { // no attempt got that far
		file, err = os.Open(os.DevNull)
	}
	if err != nil {
		return fmt.Errorf("read the workers' notes: %w", err)
	}
	defer file.Close()
	noted, err := readEffects(file)
	if err != nil {
		return err
	}
	stored := map[string][]string{}
	rows, err := w.pool.Query(ctx, `SELECT created_by_job_id, generation_key FROM observations WHERE created_by_job_id IS NOT NULL`)
	if err != nil {
		return fmt.Errorf("read the observations: %w", err)
	}
	var job, key string
	_, err = pgx.ForEachRow(rows, []any{&job, &key}, func() error {
		stored[job] = append(stored[job], key)
		v.checked[checkedEffects]++
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the observations: %w", err)
	}
	v.found = append(v.found, checkEffects(v.jobs, stored, noted)...)
	return nil
}

// verifyAnswers compares what clients were told with what is there.
func (w *world) verifyAnswers(v *verdict, calls []call) {
	for _, c := range calls {
		v.checked[checkedNo500]++
		if c.Code >= 500 && c.Code != 503 { // whatever we did, it is not the API's own fault
			v.add(checkedNo500, c.Job, "client %d at %.3fs: %s → %d %s", c.Client, c.Start.Seconds(), c.Op, c.Code, c.Error)
		}
	}
	v.calls = byJob(calls)
	for id, cs := range v.calls {
		v.checked[checkedAnswers]++
		h, ok := v.jobs[id]
		scope := w.tenants[cs[0].Tenant]
		switch {
		case !ok:
			v.add(checkedAnswers, id, "a client was told of it, and it is not there")
		case h.job.Scope != events.Scope{Team: scope.team, Project: scope.project}:
			v.add(checkedAnswers, id, "it is of another tenant than the client who asked for it")
		}
	}
	// An end that was not answered may have asked for a summary of its own.
	ends := map[string]bool{}
	for _, c := range calls {
		if session, ok := strings.CutPrefix(c.Key, endOf); ok && c.Op == opSubmit && c.unknown() {
			ends[session] = true
		}
	}
	for id, h := range v.jobs {
		asked := slices.ContainsFunc(v.calls[id], func(c call) bool { return c.Op == opSubmit })
		if !asked && (h.job.Kind != observe.KindSummary || !ends[h.job.SourceID]) {
			v.add(checkedAnswers, id, "it is there, and no client asked for it")
		}
	}
}

// verifyMemories verifies that one Idempotency-Key is one memory, and that
// each that a client was told of is there.
func (w *world) verifyMemories(ctx context.Context, v *verdict, calls []call) error {
	type name struct {
		tenant int
		key    string
	}
	told := map[name]string{}
	for _, c := range calls {
		if c.Op != opMemory || c.unknown() {
			continue
		}
		at := name{c.Tenant, c.Key}
		switch before, again := told[at]; {
		case c.Code != 201:
			v.add(checkedMemories, "", "%s of tenant %d: %d %s", c.Key, c.Tenant+1, c.Code, c.Error)
		case again && before != c.ID:
			v.add(checkedMemories, "", "%s of tenant %d is %s and %s", c.Key, c.Tenant+1, before, c.ID)
		}
		told[at] = c.ID
	}
	rows, err := w.pool.Query(ctx, `SELECT id FROM observations WHERE created_by_job_id IS NULL`)
	if err != nil {
		return fmt.Errorf("read the memories: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("read the memories: %w", err)
	}
	v.checked[checkedMemories] = len(told)
	want := slices.Sorted(maps.Values(told))
	if slices.Sort(ids); !slices.Equal(ids, want) {
		v.add(checkedMemories, "", "clients were told of %d memories, %d are there", len(want), len(ids))
	}
	return nil
}

// mostDrawings is how many jobs are drawn.
const mostDrawings = 5

// verifyOrder asks porcupine about each job.
func (w *world) verifyOrder(v *verdict) error {
	for _, id := range slices.Sorted(maps.Keys(v.calls)) {
		v.checked[checkedLinear]++
		draw := ""
		if len(v.drawings) < mostDrawings {
			draw = filepath.Join(w.dir, "order-"+id+".html")
		}
		res, err := linear(v.calls[id], draw)
		if err != nil {
			return err
		}
		if res == porcupine.Ok {
			continue
		}
		if draw != "" {
			v.drawings = append(v.drawings, draw)
		}
		text := "what clients were told fits no order of their calls"
		if res == porcupine.Unknown {
			text = fmt.Sprintf("no order of its %d calls was found in %v", len(v.calls[id]), searchFor)
		}
		v.add(checkedLinear, id, "%s", text)
	}
	return nil
}

// story tells all that is known of one job: its history, and what clients
// saw of it.
func (v *verdict) story(id string, began time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "job %s\n", id)
	for _, f := range v.found {
		if f.job == id {
			fmt.Fprintf(&b, "  ! %s: %s\n", f.check, f.text)
		}
	}
	h, ok := v.jobs[id]
	if ok {
		fmt.Fprintf(&b, "  row: %s, version %d, asked %d, attempts %d of %d, locked by %q\n",
			h.job.Status, h.job.Version, h.job.Asked, h.job.Attempts, h.job.MaxAttempts, h.job.LockedBy)
	} else {
		b.WriteString("  no such job\n")
	}
	for _, e := range h.events {
		fmt.Fprintf(&b, "  %9.3fs  %2d %-16s %-10s attempt %d  %s %s %s\n", e.At.Sub(began).Seconds(), e.Version, e.Type, e.Status, e.Attempt,
			cmp.Or(e.Process, e.Actor), e.RequestID, e.Reason)
	}
	b.WriteString("  its clients:\n")
	calls := slices.Clone(v.calls[id])
	slices.SortFunc(calls, func(a, b call) int { return cmp.Compare(a.Start, b.Start) })
	for _, c := range calls {
		fmt.Fprintf(&b, "  %9.3fs … %9.3fs  client %d: %s\n", c.Start.Seconds(), c.End.Seconds(), c.Client, c.describe())
	}
	return b.String()
}
