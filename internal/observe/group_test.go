package observe_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
)

// town is a world with two teams, of whom one has two projects, and with
// sessions in each.
type town struct {
	*world
	projects []string // of the first team two, then the other's
	callers  []observe.Caller
	sessions []string
}

const contents = 3 // sessions of each project, known to clients by a number

func newTown(t testing.TB, change ...func(*observe.Config)) *town {
	w := newWorld(t, change...)
	sibling, err := w.CreateProject(t.Context(), w.team, "sibling")
	require.NoError(t, err)
	team, abroad := w.tenant(t, "abroad")
	town := &town{world: w, projects: []string{w.project, sibling, abroad}}
	for _, of := range []struct{ team, project string }{{w.team, ""}, {w.team, w.project}, {team, ""}} {
		town.callers = append(town.callers, w.caller(t, of.team, of.project, observe.ScopeWrite))
	}
	for i, project := range town.projects {
		c := town.callers[[]int{0, 0, 2}[i]]
		for n := range contents {
			id := fmt.Sprint("content-", n)
			s, _, err := w.StartSession(t.Context(), c, observe.NewSession{ProjectID: project, ExternalSessionID: &id, ContentSessionID: &id})
			require.NoError(t, err)
			town.sessions = append(town.sessions, s.ID)
		}
	}
	return town
}

// sent is an event as a test draws it, without the ids of one world.
type sent struct {
	Project, N, Session, Content int
	Metadata                     string
}

func drawSent(t *rapid.T) sent {
	return sent{
		Project: rapid.SampledFrom([]int{0, 0, 0, 0, 1, 2}).Draw(t, "project"), N: rapid.IntRange(0, 6).Draw(t, "event"),
		Session: rapid.SampledFrom([]int{-1, -1, 0, 1, 2, 3, 6}).Draw(t, "session"), Content: rapid.IntRange(-1, contents).Draw(t, "content"),
		Metadata: rapid.SampledFrom([]string{"", "{}", `{"a":1}`, `{"b":2}`, `{"a":3,"c":[]}`}).Draw(t, "metadata"),
	}
}

func (tn *town) event(s sent) observe.NewEvent {
	e := tn.world.event(s.N)
	e.ProjectID, e.Metadata = tn.projects[s.Project], json.RawMessage(s.Metadata)
	e.SourceEventID = new(fmt.Sprint("event-", s.N))
	if s.Session >= 0 {
		e.ServerSessionID = &tn.sessions[s.Session]
	}
	if s.Content >= 0 {
		e.ContentSessionID = new(fmt.Sprint("content-", s.Content))
	}
	return e
}

type called struct {
	Caller   int
	Sent     []sent
	Generate bool
}

func (tn *town) call(c called) *observe.RecordCall {
	call := &observe.RecordCall{
		Caller: tn.callers[c.Caller], Options: observe.RecordOptions{Generate: c.Generate, Batch: len(c.Sent) > 1},
	}
	call.Caller.RequestID = fmt.Sprintf("req-%d-%d", c.Caller, len(c.Sent))
	for _, s := range c.Sent {
		call.Events = append(call.Events, tn.event(s))
	}
	return call
}

// plainly writes down answers, with a number for each id by the order of their
// appearance: what is the same in two worlds.
type plainly struct{ seen []string }

func (p *plainly) id(id string) int {
	if !slices.Contains(p.seen, id) {
		p.seen = append(p.seen, id)
	}
	return slices.Index(p.seen, id)
}

func (p *plainly) call(c *observe.RecordCall) string {
	if c.Err != nil {
		return "error: " + c.Err.Error()
	}
	var out strings.Builder
	for _, r := range c.Answer {
		e := r.Event
		fmt.Fprintf(&out, "event %d created %v payload %s metadata %s", p.id(e.ID), r.Created, e.Payload, e.Metadata)
		if e.ServerSessionID != nil {
			fmt.Fprintf(&out, " session %d", p.id(*e.ServerSessionID))
		}
		if j := r.Job; j != nil {
			fmt.Fprintf(&out, " job %d %s %s of %d, %s, version %d, waits %v, asked by %s", p.id(string(j.ID)), j.Kind, j.SourceType,
				p.id(j.SourceID), j.Status, j.Version, !j.NextAt.IsZero(), j.RequestID)
		}
		out.WriteString("\n")
	}
	return out.String()
}

// Calls that share a transaction are answered as if each had come alone, one
// after the other, whatever is wrong with some of them; and leave the same
// behind.
func TestRecordTogetherIsRecordInARow(t *testing.T) {
	t.Parallel()
	for _, policy := range observe.Policies() {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			own := func(cfg *observe.Config) { cfg.Policy, cfg.Debounce = policy, time.Hour }
			together, row := newTown(t, own), newTown(t, own)
			rapid.Check(t, func(rt *rapid.T) {
				calls := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) called {
					return called{
						Caller: rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(t, "caller"), Generate: rapid.IntRange(0, 3).Draw(t, "generate") > 0,
						Sent: rapid.SliceOfN(rapid.Custom(drawSent), 1, 5).Draw(t, "events"),
					}
				}), 1, 8).Draw(rt, "calls")
				var one, other plainly
				var got, want []*observe.RecordCall
				for _, c := range calls {
					got, want = append(got, together.call(c)), append(want, row.call(c))
				}
				require.NoError(rt, together.RecordTogether(t.Context(), got))
				for i, c := range want {
					c.Answer, c.Err = row.Record(t.Context(), c.Caller, c.Events, c.Options)
					require.Equal(rt, other.call(c), one.call(got[i]), "call %d of %+v", i, calls)
				}
				for _, table := range []string{
					"agent_events", "observation_generation_jobs", "outbox",
					"(SELECT action, project_id IS NULL, request_id, details, count(*) FROM audit_log GROUP BY 1, 2, 3, 4)",
				} {
					require.Equal(rt, row.count(t, table+" x"), together.count(t, table+" x"), table)
				}
			})
			together.check(t)
			row.check(t)
		})
	}
}

// One that Postgres refuses does not fail the others of its transaction.
func TestAPoisonedCallFailsAlone(t *testing.T) {
	t.Parallel()
	tn := newTown(t)
	var calls []*observe.RecordCall
	for i := range 16 {
		calls = append(calls, tn.call(called{Sent: []sent{{N: i, Session: -1, Content: -1}}, Generate: true}))
	}
	calls[5].Caller.Actor = "a\x00b" // no door lets that in, and jsonb does not hold it
	calls[9].Caller.Scopes = nil
	calls[11].Events[0].ProjectID = tn.projects[2]
	require.NoError(t, tn.RecordTogether(t.Context(), calls))
	for i, c := range calls {
		switch i {
		case 5:
			require.ErrorContains(t, c.Err, "22P05")
		case 9:
			require.ErrorIs(t, c.Err, observe.ErrNoScope)
		case 11:
			require.ErrorIs(t, c.Err, observe.ErrForbidden)
		default:
			require.NoError(t, c.Err)
			require.True(t, c.Answer[0].Created)
		}
	}
	require.Equal(t, 13, tn.count(t, "agent_events"))
	require.Equal(t, 13, tn.count(t, "observation_generation_jobs"))
	tn.check(t)
}

// What is known by an old name, and what was pruned, is so for each of those
// who share a transaction, whatever their team.
func TestTogetherOldNamesAndPrunedJobsAreKnown(t *testing.T) {
	t.Parallel()
	tn := newTown(t)
	send := func() []*observe.RecordCall {
		var calls []*observe.RecordCall
		for _, of := range []struct{ caller, project int }{{0, 0}, {2, 2}, {0, 0}} {
			calls = append(calls, tn.call(called{Caller: of.caller, Generate: true, Sent: []sent{
				{Project: of.project, N: 0, Session: -1, Content: -1}, {Project: of.project, N: 1, Session: -1, Content: -1},
			}}))
		}
		require.NoError(t, tn.RecordTogether(t.Context(), calls))
		return calls
	}
	var old []events.ID
	as := func(c *observe.RecordCall) { // what is read and done next is this team's
		tn.me = c.Caller
		tn.me.Scopes = []string{observe.ScopeAll}
	}
	for _, c := range send()[:2] {
		require.NoError(t, c.Err)
		as(c)
		old = append(old, tn.nameAsBefore(t, c.Answer[0], time.Time{}))
		tn.do(t, c.Answer[1].Job.ID)
		got, err := tn.Service.Prune(t.Context(), tn.me, c.Events[0].ProjectID, observe.PruneConfig{Before: time.Now().Add(time.Hour)})
		require.NoError(t, err)
		require.EqualValues(t, 1, got.Jobs)
	}
	again := send()
	for i, c := range again {
		require.NoError(t, c.Err)
		require.Equal(t, old[i%2], c.Answer[0].Job.ID)
		require.Nil(t, c.Answer[1].Job)
		require.False(t, c.Answer[0].Created || c.Answer[1].Created)
	}
	require.Equal(t, 2, tn.count(t, "observation_generation_jobs"))
	for i, id := range old {
		as(again[i])
		tn.do(t, id)
	}
	tn.check(t)
}

// Many at once: each event is made by one call, and has one job.
func TestRecordAtTheSameTime(t *testing.T) {
	t.Parallel()
	tn := newTown(t)
	const workers, rounds, distinct = 24, 12, 40
	var mu sync.Mutex
	created, jobs := map[string]int{}, map[string]events.ID{}
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			for round := range rounds {
				n := (worker*7 + round*11) % distinct
				call := tn.call(called{Sent: []sent{{N: n, Session: -1, Content: n % (contents + 1)}, {N: (n + 1) % distinct, Session: -1, Content: -1}}, Generate: true})
				got, err := tn.Record(t.Context(), call.Caller, call.Events, call.Options)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for _, r := range got {
					if r.Created {
						created[r.Event.ID]++
					}
					if was := jobs[r.Event.ID]; was != "" && was != r.Job.ID {
						t.Errorf("event %s has jobs %s and %s", r.Event.ID, was, r.Job.ID)
					}
					jobs[r.Event.ID] = r.Job.ID
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	require.Len(t, jobs, distinct)
	require.Len(t, created, distinct)
	for id, n := range created {
		require.Equal(t, 1, n, id)
	}
	require.Equal(t, distinct, tn.count(t, "agent_events"))
	require.Equal(t, distinct, tn.count(t, "outbox"))
	require.Equal(t, workers*rounds, tn.count(t, "audit_log WHERE action = 'event.batch_received'"))
	tn.check(t)
}

// hold locks rows as a stranger until the test lets go.
func (w *world) hold(t *testing.T, sql string, args ...any) (letGo func()) {
	t.Helper()
	tx, err := w.pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
	once := sync.OnceFunc(func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) })
	t.Cleanup(once)
	return once
}

// What somebody holds delays those who need it, and nobody else: a project
// that is being emptied, an event that another transaction is about to store.
func TestWhoIsLockedOutHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	for name, lock := range map[string]func(t *testing.T, tn *town) func(){
		"project": func(t *testing.T, tn *town) func() {
			return tn.hold(t, "SELECT FROM projects WHERE id = $1 FOR UPDATE", tn.projects[2])
		},
		"event": func(t *testing.T, tn *town) func() {
			call := tn.call(called{Caller: 2, Sent: []sent{{Project: 2, N: 0, Session: -1, Content: 0}}})
			got, err := tn.Record(t.Context(), call.Caller, call.Events, call.Options)
			require.NoError(t, err)
			return tn.hold(t, "DELETE FROM agent_events WHERE id = $1", got[0].Event.ID)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tn := newTown(t)
			letGo := lock(t, tn)
			record := func(ctx context.Context, project, caller, n int) error {
				call := tn.call(called{Caller: caller, Sent: []sent{{Project: project, N: n, Session: -1, Content: 0}}, Generate: true})
				_, err := tn.Record(ctx, call.Caller, call.Events, call.Options)
				return err
			}
			var wg sync.WaitGroup
			const held = 30 // more than there are connections
			failed := make(chan error, held)
			for range held {
				wg.Go(func() { failed <- record(t.Context(), 2, 2, 0) })
			}
			require.Eventually(t, func() bool { return tn.WaitingLanes() == 1 }, time.Minute, time.Millisecond)
			for n := range 20 {
				require.NoError(t, record(t.Context(), n%2, 0, n), "somebody else's")
			}
			require.Empty(t, failed, "they wait")
			require.Less(t, tn.pool.Stat().AcquiredConns(), tn.pool.Config().MaxConns, "and do not take all connections")

			// One who will not wait any longer is told so, and the others wait on.
			ctx, leave := context.WithCancel(t.Context())
			left := make(chan error, 1)
			go func() { left <- record(ctx, 2, 2, 1) }()
			leave()
			require.ErrorIs(t, <-left, context.Canceled)

			letGo()
			wg.Wait()
			for range held {
				require.NoError(t, <-failed)
			}
			require.Zero(t, tn.WaitingLanes())
			tn.check(t)
		})
	}
}

// No foreign key ties an event to its project and its session. Who stores it
// holds the project, so that neither goes away meanwhile; a session that
// somebody changes is waited for by nobody.
func TestWhoRecordsHoldsTheProject(t *testing.T) {
	t.Parallel()
	tn := newTown(t)
	call := tn.call(called{Sent: []sent{{N: 0, Session: 0, Content: -1}}})
	tn.hold(t, "SELECT FROM server_sessions FOR UPDATE")
	got, err := tn.Record(t.Context(), call.Caller, call.Events, call.Options)
	require.NoError(t, err)
	require.NotNil(t, got[0].Event.ServerSessionID)
	take := func() error {
		_, err := tn.pool.Exec(t.Context(), "SELECT FROM projects WHERE id = $1 FOR UPDATE NOWAIT", tn.projects[0])
		return err
	}
	require.NoError(t, take())

	letGo := tn.hold(t, "DELETE FROM agent_events WHERE id = $1", got[0].Event.ID)
	again := make(chan error, 1)
	go func() {
		_, err := tn.Record(t.Context(), call.Caller, call.Events, call.Options)
		again <- err
	}()
	require.Eventually(t, func() bool { return take() != nil }, time.Minute, time.Millisecond, "it waits, and holds the project")
	letGo()
	require.NoError(t, <-again)
	require.NoError(t, take())
}

// When all who wait have left, what they waited in ends as well.
func TestWhoAllHaveLeftIsNotDone(t *testing.T) {
	t.Parallel()
	tn := newTown(t)
	letGo := tn.hold(t, "SELECT FROM projects WHERE id = $1 FOR UPDATE", tn.projects[0])
	ctx, leave := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for n := range 5 {
		wg.Go(func() {
			call := tn.call(called{Sent: []sent{{N: n, Session: -1, Content: -1}}})
			if _, err := tn.Record(ctx, call.Caller, call.Events, call.Options); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
	}
	waits := func() bool {
		var n int
		err := tn.pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'").Scan(&n)
		return err == nil && n > 0
	}
	require.Eventually(t, waits, time.Minute, time.Millisecond)
	leave()
	wg.Wait()
	require.Eventually(t, func() bool { return tn.pool.Stat().AcquiredConns() == 1 }, time.Minute, time.Millisecond, "only the stranger's is left")
	letGo()
	require.Eventually(t, func() bool { return !waits() }, time.Minute, time.Millisecond)
	require.Zero(t, tn.count(t, "agent_events"))
}

// A purge finds its way between requests, and they find theirs.
func TestRecordWhileAProjectIsPurged(t *testing.T) {
	t.Parallel()
	tn := newTown(t)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for worker := range 6 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				call := tn.call(called{Sent: []sent{{Project: worker % 2, N: n % 30, Session: -1, Content: n % 3}}, Generate: true})
				if _, err := tn.Record(ctx, call.Caller, call.Events, call.Options); err != nil && ctx.Err() == nil {
					t.Errorf("record: %v", err)
					return
				}
			}
		})
	}
	for range 10 {
		_, err := tn.Purge(t.Context(), tn.me, tn.project)
		require.NoError(t, err)
	}
	stop()
	wg.Wait()
	tn.check(t)
}
