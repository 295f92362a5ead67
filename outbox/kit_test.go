package outbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/events/eventstest"
	"github.com/seed-245eaa15/obs/internal/testenv"
	"github.com/seed-245eaa15/obs/outbox"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const (
	kind  = events.Kind("note")
	soon  = time.Minute
	often = 3 * time.Millisecond
)

var (
	teamA  = events.Scope{Team: "a", Project: "pa"}
	teamB  = events.Scope{Team: "b", Project: "pb"}
	worker = events.Holder{ID: "w1", Name: "w1", Slots: map[events.Kind]int{kind: 4}}
)

// store is what a relay reads and what a test does to fill and empty it.
type store interface {
	outbox.Store
	outbox.Feed
	Enqueue(ctx context.Context, steps ...events.Step) ([]bool, error)
	Get(ctx context.Context, scope events.Scope, id events.ID) (events.Job, []events.Event, error)
	Begin(ctx context.Context, worker events.Holder, es []events.Envelope) ([]events.Claim, error)
	Settle(ctx context.Context, steps []events.Step, commits []func(context.Context, pgx.Tx) error, last ...func(context.Context, pgx.Tx) error) ([]error, error)
	Seen(ctx context.Context, worker events.Holder) error
}

// postgres is the real one.
type postgres struct {
	*db.Jobs
	pool *pgxpool.Pool
}

func (p postgres) Enqueue(ctx context.Context, steps ...events.Step) (added []bool, err error) {
	err = db.InTx(ctx, p.pool, func(tx pgx.Tx) error {
		added, err = p.Jobs.Enqueue(ctx, tx, steps...)
		return err
	})
	return added, err
}

// world is a store, a broker, and a relay's settings.
type world struct {
	*testing.T
	store store
	js    jetstream.JetStream
	cfg   outbox.Config
	n     int
}

func newWorld(t *testing.T, s store) *world {
	t.Helper()
	js, err := jetstream.New(testenv.NATS(t))
	require.NoError(t, err)
	return &world{T: t, store: s, js: js, cfg: outbox.Config{
		Streams: outbox.Streams{Kinds: []events.Kind{kind}}, Log: testenv.Log(t),
	}}
}

// memory is a world that needs no Postgres.
func memory(t *testing.T) *world {
	t.Helper()
	return newWorld(t, eventstest.NewMemory())
}

// each runs a test on both stores.
func each(t *testing.T, test func(w *world)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		test(memory(t))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(newWorld(t, newPostgres(t)))
	})
}

func newPostgres(t testing.TB) postgres {
	t.Helper()
	pool := testenv.Pool(t)
	for _, s := range []events.Scope{teamA, teamB} {
		_, err := pool.Exec(t.Context(), `INSERT INTO teams (id, name) VALUES ($1, $1)`, s.Team)
		require.NoError(t, err)
		_, err = pool.Exec(t.Context(), `INSERT INTO projects (id, team_id, name) VALUES ($1, $2, $1)`, s.Project, s.Team)
		require.NoError(t, err)
	}
	return postgres{db.NewJobs(pool, db.JobsConfig{Process: "test"}), pool}
}

// step makes the n-th job of a tenant.
func step(t testing.TB, n int, scope events.Scope, set ...func(*events.Step)) events.Step {
	t.Helper()
	id := events.NewID(kind, scope.Team, scope.Project, fmt.Sprint(n))
	s, err := events.New(events.Job{
		ID: id, Kind: kind, Scope: scope, SourceType: "test", SourceID: string(id), Args: json.RawMessage(`{}`),
	}, events.Event{Actor: "test"})
	require.NoError(t, err)
	for _, f := range set {
		f(&s)
	}
	return s
}

func priority(n int) func(*events.Step) { return func(s *events.Step) { s.Job.Priority = n } }

func delay(d time.Duration) func(*events.Step) { return func(s *events.Step) { s.Delay = d } }

func (w *world) enqueue(n int, scope events.Scope, set ...func(*events.Step)) []events.ID {
	w.Helper()
	steps := make([]events.Step, n)
	ids := make([]events.ID, n)
	for i := range steps {
		w.n++
		steps[i] = step(w, w.n, scope, set...)
		ids[i] = steps[i].Job.ID
	}
	_, err := w.store.Enqueue(w.Context(), steps...)
	require.NoError(w, err)
	return ids
}

// relay runs one until the test, or the returned function, ends it.
func (w *world) relay(feed outbox.Feed) (*outbox.Relay, func()) {
	w.Helper()
	r := outbox.New(w.store, feed, w.js, w.cfg)
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(w, <-done)
		}
	}
	w.Cleanup(stop)
	return r, stop
}

// take takes up to n messages off the lane, in order.
func (w *world) take(n int) (msgs []jetstream.Msg, es []events.Envelope) {
	w.Helper()
	c, err := w.js.Consumer(w.Context(), w.cfg.Streams.JobsStream(), w.cfg.Streams.Consumer(kind))
	if err != nil {
		return nil, nil // the relay is about to make it
	}
	batch, err := c.FetchNoWait(n)
	require.NoError(w, err)
	for m := range batch.Messages() {
		e, err := events.ParseEnvelope(m.Data())
		require.NoError(w, err)
		msgs, es = append(msgs, m), append(es, e)
	}
	return msgs, es
}

// pull takes messages and acknowledges them, which no worker would do before
// it has claimed their jobs: for the store they are lost now.
func (w *world) pull(n int) []events.Envelope {
	w.Helper()
	msgs, es := w.take(n)
	for _, m := range msgs {
		require.NoError(w, m.DoubleAck(w.Context()))
	}
	return es
}

// work begins what is on the lane until all the jobs were begun, and counts
// the claims of each. It is seen while it does so, as a worker that names no
// slots: the next reconciliation would take the jobs of an unseen one away.
func (w *world) work(jobs int) (begun map[events.ID]int, refused int) {
	w.Helper()
	begun = map[events.ID]int{}
	w.until(fmt.Sprintf("%d jobs begin", jobs), func() bool {
		msgs, es := w.take(500)
		if len(es) > 0 {
			require.NoError(w, w.store.Seen(w.Context(), events.Holder{ID: worker.ID, Name: worker.Name, Slots: map[events.Kind]int{}}))
			claims, err := w.store.Begin(w.Context(), worker, es)
			require.NoError(w, err)
			for i, c := range claims {
				if c.Err != nil {
					refused++
				} else {
					begun[c.Job.ID]++
				}
				require.NoError(w, msgs[i].Ack())
			}
		}
		return len(begun) >= jobs
	})
	return begun, refused
}

// state is what the broker says of JOBS.
func (w *world) state() jetstream.StreamState {
	w.Helper()
	s, err := w.js.Stream(w.Context(), w.cfg.Streams.JobsStream())
	if err != nil {
		return jetstream.StreamState{}
	}
	return s.CachedInfo().State
}

func (w *world) onStream(n int) func() bool {
	return func() bool { return int(w.state().Msgs) == n }
}

func (w *world) until(what string, ok func() bool) {
	w.Helper()
	require.Eventually(w, ok, soon, often, what)
}

// once makes one pass and wants no error.
func (w *world) once(r *outbox.Relay) int {
	w.Helper()
	var n int
	var err error
	w.until("nobody else leads: a session that led may still be ending", func() bool {
		n, err = r.Once(w.Context())
		return !errors.Is(err, outbox.ErrNotLeader)
	})
	require.NoError(w, err)
	return n
}
