package eventstest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seed-245eaa15/obs/events"
)

// Model gives random commands to a table and to a [Memory], and wants equal
// answers from both, step by step, and equal jobs and histories at the end.
// It is what makes a test on Memory count for the table. All runs share the
// one table, in which nothing else may happen meanwhile; the tenants [Mine]
// and [Theirs] must be there.
func Model(t *testing.T, table Table) {
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		m := &model{
			T: rt, ctx: t.Context(), mem: NewMemory(), real: table, run: run,
			jobs: map[events.ID]events.Scope{}, read: map[events.ID][]pair{},
		}
		defer m.clear(t)
		rt.Repeat(map[string]func(*rapid.T){
			"enqueue":  m.enqueue,
			"begin":    m.begin,
			"settle":   m.settle,
			"brief":    m.brief,
			"operator": m.operator,
			"enqueued": m.enqueued,
			"again":    m.again,
			"seen":     m.seen,
			"gone":     m.gone,
			"reclaim":  m.reclaim,
			"":         m.invariants,
		})
		m.compare()
	})
}

// pair is a job as it was read from both at the same point.
type pair struct{ mem, real events.Job }

type model struct {
	*rapid.T
	ctx  context.Context
	mem  *Memory
	real Table
	run  int
	jobs map[events.ID]events.Scope
	read map[events.ID][]pair // newest last: what callers may still have in hand
}

// word is what two answers must have in common.
func word(err error) string {
	for _, e := range []error{events.ErrSettled, events.ErrHeld, events.ErrUnknownJob, events.ErrScope, errPoison} {
		if errors.Is(err, e) {
			return e.Error()
		}
	}
	if err != nil {
		return "another error: " + err.Error()
	}
	return ""
}

func words(errs []error) []string {
	ws := make([]string, len(errs))
	for i, err := range errs {
		ws[i] = word(err)
	}
	return ws
}

// timeless is what of a job or an event does not hang on a clock.
func timeless(j events.Job) string {
	due := !j.NextAt.IsZero()
	ends := []bool{j.LockedAt.IsZero(), j.CompletedAt.IsZero(), j.FailedAt.IsZero(), j.CancelledAt.IsZero()}
	return fmt.Sprint(j.ID, j.Kind, j.Scope, j.Status, j.Version, j.Asked, j.Attempts, j.MaxAttempts, due, j.LockedBy, j.LastError, ends)
}

func (m *model) pick(label string, most int) []events.ID {
	var all []events.ID
	for id := range m.jobs {
		all = append(all, id)
	}
	if len(all) == 0 {
		m.Skip("no job yet")
	}
	slices.Sort(all)
	return rapid.SliceOfNDistinct(rapid.SampledFrom(all), 1, min(most, len(all)), rapid.ID[events.ID]).Draw(m.T, label)
}

func (m *model) worker() events.Holder {
	n := rapid.IntRange(1, 3).Draw(m.T, "worker")
	return events.Holder{ID: fmt.Sprintf("m%d-w%d", m.run, n), Slots: map[events.Kind]int{"a": n}}
}

// now reads a job from both.
func (m *model) now(id events.ID) pair {
	a, _, err := m.mem.Get(m.ctx, m.jobs[id], id)
	require.NoError(m, err)
	b, _, err := m.real.Get(m.ctx, m.jobs[id], id)
	require.NoError(m, err)
	require.Equal(m, timeless(a), timeless(b))
	m.read[id] = append(m.read[id], pair{a, b})
	return pair{a, b}
}

// had is the job as somebody has it: as it is, or as it was when read before.
func (m *model) had(id events.ID) pair {
	old := m.read[id]
	if len(old) > 0 && rapid.IntRange(0, 3).Draw(m.T, "stale") == 0 {
		return rapid.SampledFrom(old).Draw(m.T, "read before")
	}
	return m.now(id)
}

func delay(t *rapid.T) time.Duration {
	return rapid.SampledFrom([]time.Duration{0, 0, time.Hour}).Draw(t, "delay")
}

func (m *model) enqueue(t *rapid.T) {
	n := rapid.IntRange(1, 5).Draw(t, "job")
	j := events.Job{
		ID: events.NewID("a", fmt.Sprint(m.run), fmt.Sprint(n)), Kind: "a", Args: []byte(`{}`), RequestID: "r",
		Scope: []events.Scope{Mine, Theirs}[n%2], MaxAttempts: 1 + n%3,
		SourceType: "model", SourceID: fmt.Sprintf("%d/%d", m.run, n),
	}
	s, err := events.New(j, events.Event{Actor: "model"})
	require.NoError(t, err)
	s.Delay = delay(t)
	a, err := m.mem.Enqueue(m.ctx, s)
	require.NoError(t, err)
	b, err := m.real.Enqueue(m.ctx, s)
	require.NoError(t, err)
	require.Equal(t, a, b)
	m.jobs[j.ID] = j.Scope
}

func (m *model) begin(t *rapid.T) {
	w := m.worker()
	var es []events.Envelope
	for _, id := range m.pick("jobs", 3) {
		e := m.had(id).mem.Envelope()
		switch rapid.IntRange(0, 12).Draw(t, "forgery") {
		case 1:
			e.Scope.Team = Theirs.Team
		case 2:
			e.Kind = "b"
		case 3:
			e.Job = "a_nosuchjob"
		case 4:
			e.Asked++
		}
		es = append(es, e)
	}
	a, err := m.mem.Begin(m.ctx, w, es)
	require.NoError(t, err)
	b, err := m.real.Begin(m.ctx, w, es)
	require.NoError(t, err)
	for i, c := range a {
		require.Equal(t, word(c.Err), word(b[i].Err), "claim %v", es[i])
		if c.Err == nil {
			require.Equal(t, timeless(c.Job), timeless(b[i].Job))
			m.read[c.Job.ID] = append(m.read[c.Job.ID], pair{c.Job, b[i].Job})
		}
	}
}

var errPoison = errors.New("poison")

func (m *model) settle(t *rapid.T) {
	var as, bs []events.Step
	var commits []func(context.Context, pgx.Tx) error
	for _, id := range m.pick("jobs", 3) {
		p := m.had(id)
		e := events.Event{
			Type:  rapid.SampledFrom([]events.Type{events.Completed, events.Failed, events.RetryScheduled, events.Released}).Draw(t, "outcome"),
			Actor: "worker", Process: p.mem.LockedBy, Reason: "because",
		}
		d := delay(t)
		as, bs = append(as, events.Step{Job: p.mem, Event: e, Delay: d}), append(bs, events.Step{Job: p.real, Event: e, Delay: d})
		switch rapid.IntRange(0, 9).Draw(t, "commit") {
		case 0:
			commits = append(commits, func(context.Context, pgx.Tx) error { return errPoison })
		case 1:
			commits = append(commits, func(context.Context, pgx.Tx) error { return nil })
		default:
			commits = append(commits, nil)
		}
	}
	x, errA := m.mem.Settle(m.ctx, as, commits)
	y, errB := m.real.Settle(m.ctx, bs, commits)
	require.Equal(t, word(errA), word(errB))
	require.Equal(t, words(x), words(y))
}

// brief looks at some jobs, lets the others do something meanwhile, and settles
// what was there to be done.
func (m *model) brief(t *rapid.T) {
	w := m.worker()
	var es []events.Envelope
	for _, id := range m.pick("jobs", 3) {
		es = append(es, m.had(id).mem.Envelope())
	}
	a, err := m.mem.Look(m.ctx, w, es)
	require.NoError(t, err)
	b, err := m.real.Look(m.ctx, w, es)
	require.NoError(t, err)
	switch rapid.IntRange(0, 5).Draw(t, "meanwhile") {
	case 0:
		m.operator(t)
	case 1:
		m.enqueued(t)
	case 2:
		m.begin(t)
	case 3:
		m.again(t)
	}
	var as, bs []events.Step
	var commits []func(context.Context, pgx.Tx) error
	for i, c := range a {
		require.Equal(t, c.Err == nil, b[i].Err == nil, "look at %v: %v, %v", es[i], c.Err, b[i].Err)
		if c.Err != nil {
			continue
		}
		require.Equal(t, timeless(c.Job), timeless(b[i].Job))
		e := events.Event{
			Type:  rapid.SampledFrom([]events.Type{events.Completed, events.Completed, events.Completed, events.Failed, events.RetryScheduled, events.Released}).Draw(t, "outcome"),
			Actor: "worker", Process: w.ID,
		}
		if e.Type != events.Completed {
			e.Reason = "because"
		}
		d := delay(t)
		as = append(as, events.Step{Job: c.Job, Event: e, Delay: d, Begins: true})
		bs = append(bs, events.Step{Job: b[i].Job, Event: e, Delay: d, Begins: true})
		if rapid.IntRange(0, 4).Draw(t, "commit") == 0 {
			commits = append(commits, func(context.Context, pgx.Tx) error { return nil })
		} else {
			commits = append(commits, nil)
		}
	}
	for range rapid.IntRange(1, 2).Draw(t, "times") { // the second time it is as if the answer was lost
		x, errA := m.mem.Settle(m.ctx, as, commits)
		y, errB := m.real.Settle(m.ctx, bs, commits)
		require.Equal(t, word(errA), word(errB))
		require.Equal(t, words(x), words(y))
	}
}

func (m *model) operator(t *rapid.T) {
	p := m.had(m.pick("job", 1)[0])
	e := events.Event{Type: rapid.SampledFrom([]events.Type{events.Queued, events.Cancelled}).Draw(t, "type"), Actor: "operator"}
	a, err := m.mem.Move(m.ctx, []events.Step{{Job: p.mem, Event: e}})
	require.NoError(t, err)
	b, err := m.real.Move(m.ctx, []events.Step{{Job: p.real, Event: e}})
	require.NoError(t, err)
	require.Equal(t, words(a), words(b))
}

// asks reads the asks of this run's jobs from both.
func (m *model) asks() (mem, real map[events.ID]events.Ask) {
	read := func(table Table) map[events.ID]events.Ask {
		found := map[events.ID]events.Ask{}
		asks, err := table.Asks(m.ctx, events.AskQuery{Limit: enough})
		require.NoError(m, err)
		for _, a := range asks {
			if _, ok := m.jobs[a.Envelope.Job]; ok {
				require.NotContains(m, found, a.Envelope.Job, "one ask a job")
				found[a.Envelope.Job] = a
			}
		}
		return found
	}
	mem, real = read(m.mem), read(m.real)
	require.Len(m, real, len(mem))
	for id, a := range mem {
		require.Equal(m, a.Envelope, real[id].Envelope)
		require.Equal(m, a.Priority, real[id].Priority)
	}
	return mem, real
}

// rows picks some asks, as rows of each.
func (m *model) rows() (mem, real []int64) {
	a, b := m.asks()
	for _, id := range m.pick("asks", 3) {
		mem, real = append(mem, a[id].Row), append(real, b[id].Row) // 0 when there is none
	}
	return mem, real
}

func (m *model) enqueued(t *rapid.T) {
	a, b := m.rows()
	require.NoError(t, m.mem.Enqueued(m.ctx, a))
	require.NoError(t, m.real.Enqueued(m.ctx, b))
}

func (m *model) again(t *rapid.T) {
	a, b := m.rows()
	x, err := m.mem.Again(m.ctx, a)
	require.NoError(t, err)
	y, err := m.real.Again(m.ctx, b)
	require.NoError(t, err)
	require.Equal(t, x, y)
}

func (m *model) seen(t *rapid.T) {
	w := m.worker()
	require.NoError(t, m.mem.Seen(m.ctx, w))
	require.NoError(t, m.real.Seen(m.ctx, w))
	m.slots()
}

func (m *model) gone(t *rapid.T) {
	w := m.worker()
	require.NoError(t, m.mem.Gone(m.ctx, w))
	require.NoError(t, m.real.Gone(m.ctx, w))
	m.slots()
}

func (m *model) slots() {
	a, err := m.mem.Slots(m.ctx, time.Hour)
	require.NoError(m, err)
	b, err := m.real.Slots(m.ctx, time.Hour)
	require.NoError(m, err)
	require.Equal(m, a, b)
}

func (m *model) reclaim(t *rapid.T) {
	a, err := m.mem.Reclaim(m.ctx, time.Hour)
	require.NoError(t, err)
	b, err := m.real.Reclaim(m.ctx, time.Hour)
	require.NoError(t, err)
	require.Equal(t, a, b)
}

// invariants holds after every command.
func (m *model) invariants(t *rapid.T) {
	for id, scope := range m.jobs {
		check(t, m.ctx, m.mem, events.Job{ID: id, Scope: scope})
	}
}

// compare wants the same jobs, histories and feeds.
func (m *model) compare() {
	m.asks()
	feed := map[events.ID][]int{}
	fresh, err := m.real.Fresh(m.ctx, enough)
	require.NoError(m, err)
	for _, f := range Events(fresh) {
		feed[f.Event.Job] = append(feed[f.Event.Job], f.Event.Version)
	}
	for id, scope := range m.jobs {
		m.now(id)
		check(m, m.ctx, m.real, events.Job{ID: id, Scope: scope})
		_, a, err := m.mem.Get(m.ctx, scope, id)
		require.NoError(m, err)
		_, b, err := m.real.Get(m.ctx, scope, id)
		require.NoError(m, err)
		require.Len(m, b, len(a))
		var versions []int
		for i, e := range a {
			got := b[i]
			require.Equal(m, e.NextAt.IsZero(), got.NextAt.IsZero())
			if e.Process == "" { // the table may write its own
				got.Process = ""
			}
			if e.Build == "" {
				got.Build = ""
			}
			got.At, got.NextAt = e.At, e.NextAt
			require.Equal(m, e, got)
			versions = append(versions, e.Version)
		}
		require.Equal(m, versions, feed[id], "the feed has each event once, in order")
	}
}

// clear leaves nothing that the next run could meet.
func (m *model) clear(t *testing.T) {
	for n := range 4 {
		require.NoError(t, m.real.Gone(m.ctx, events.Holder{ID: fmt.Sprintf("m%d-w%d", m.run, n)}))
	}
	for id, scope := range m.jobs {
		j, _, err := m.real.Get(m.ctx, scope, id)
		require.NoError(t, err)
		if !j.Status.Settled() {
			_, err = m.real.Move(m.ctx, []events.Step{{Job: j, Event: events.Event{Type: events.Cancelled, Actor: "model"}}})
			require.NoError(t, err)
		}
	}
	fresh, err := m.real.Fresh(m.ctx, enough)
	require.NoError(t, err)
	var rows []int64
	for _, f := range fresh {
		rows = append(rows, f.Row)
	}
	require.NoError(t, m.real.Told(m.ctx, rows))
}
