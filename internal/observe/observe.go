package observe

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/pipeline"
	"github.com/seed-245eaa15/obs/sqlc"
)

// The kinds of job. They are on the wire for ever.
const (
	KindEvent   events.Kind = "event"   // observations of one agent event
	KindBatch   events.Kind = "batch"   // observations of a burst of one session
	KindSummary events.Kind = "summary" // the summary of a session
	KindReindex events.Kind = "reindex" // renders observations anew
)

// The source types of jobs, what [events.Job.SourceType] holds.
const (
	SourceEvent   = "agent_event"
	SourceBatch   = "session_batch"
	SourceSummary = "session_summary"
	SourceReindex = "observation_reindex"
)

// Kinds lists the kinds of job that this application has handlers for.
func Kinds() []events.Kind {
	return []events.Kind{KindEvent, KindBatch, KindSummary, KindReindex}
}

// Config says what a Service works with. Pool, Jobs and Provider are needed,
// the rest works as it is; the Provider only by handlers.
type Config struct {
	Pool        *pgxpool.Pool // stays the caller's
	Jobs        *db.Jobs      // on the same database
	Provider    llm.Provider
	Modes       map[string]*llm.Mode            // that projects may have; nil: those that come with obs
	Log         *slog.Logger                    // nil: nothing is logged
	Ring        func(queued ...events.Envelope) // called after each commit that queued something, which it may name, all of it; must not block; nil: none
	Policy      string                          // of projects without one, of [Policies]; empty: debounce if there is a Debounce, else per-event
	Debounce    time.Duration                   // how long events of a session wait for others; 0: 5 s, where the policy has them wait
	Peppers     Peppers                         // keys are hashed with; zero: a plain SHA-256
	Limits      Limits                          // of keys and teams; zero: none
	Prices      llm.Prices                      // what tokens cost; zero: nothing
	Near        Near                            // who makes vectors of what observations say; zero: nobody
	MaxAttempts int                             // of each job; 0: events.DefaultMaxAttempts
	Process     string                          // who writes, in the history of jobs; empty is kept empty
	Build       string                          // the program's version

	// Writing is told what a finished attempt is about to store, before
	// anybody knows whether it still may: the job as it was claimed, and the
	// generation keys. Fault tests compare it with what was stored; nil:
	// nobody is told.
	Writing func(job events.Job, keys []string) error
}

// Service is the application. It is safe for concurrent use; make it with
// [New].
type Service struct {
	cfg      Config
	pool     *pgxpool.Pool
	q        *sqlc.Queries
	jobs     *db.Jobs
	log      *slog.Logger
	waiters  waiters
	lanes    laneCache
	known    cache[events.Scope, knownProject]
	trusted  cache[keyRef, struct{}] // keys that were good a moment ago
	presumed cache[[sha256.Size]byte, Caller]
	words    vocabulary
	sizes    cache[events.Scope, int]  // of projects, in observations
	hashed   atomic.Pointer[time.Time] // the answer of hashedUntil
	join     func(*writing) pipeline.Commit
	sources  *loader[eventRef, sqlc.AgentEvent]
	projects *loader[events.Scope, knownProject] // those that known has not
	keys     *loader[keyRef, bool]               // whether they are revoked

	budgets   cache[string, Budget]   // of teams
	stated    *loader[string, Budget] // those that budgets has not
	unpriced  sync.Map                // models without a price, that the log has been told of
	heldTeams atomic.Int64
	recorder  *recorder
	shown     *gatherer[*shown] // keys that requests show

	store    cache[struct{}, vectorStore] // how vectors are kept in this database
	askedOf  cache[string, []float32]     // the vectors of questions
	resting  atomic.Int64                 // until when nobody is asked for a question's vector, in Unix µs
	unplaced unplaced
}

// New gives the application on a migrated database.
func New(cfg Config) *Service {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Ring == nil {
		cfg.Ring = func(...events.Envelope) {}
	}
	s := &Service{cfg: cfg, pool: cfg.Pool, q: sqlc.New(cfg.Pool), jobs: cfg.Jobs, log: cfg.Log}
	s.recorder = newRecorder(s)
	s.shown = &gatherer[*shown]{atOnce: 2, crowd: maxShown, most: maxShown, run: s.useKeys}
	s.join = pipeline.Join(s.write)
	s.sources, s.projects, s.keys = newLoader(s.loadEvents), newLoader(s.loadProjects), newLoader(s.loadRevoked)
	s.stated = newLoader(s.loadBudgets)
	return s
}

// txTries bounds how often a transaction is run again because Postgres broke
// it off for the sake of another one.
const txTries = 4

// errPurged says that a row was there and then was not: the project was purged
// in between.
var errPurged = errors.New("the project was purged meanwhile")

// inTx runs fn in one transaction, and runs it again after a deadlock, or when
// what it had found was purged before it could refer to it. So fn must set its
// results anew each time.
func (s *Service) inTx(ctx context.Context, fn func(tx pgx.Tx, q *sqlc.Queries) error) error {
	return s.again(func() error {
		return db.InTx(ctx, s.pool, func(tx pgx.Tx) error { return fn(tx, s.q.WithTx(tx)) })
	})
}

// again runs a transaction, and runs it again as inTx says.
func (s *Service) again(tx func() error) error {
	var err error
	for range txTries {
		err = tx()
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok && (pg.Code == "40P01" || pg.Code == "40001" || pg.Code == "23503") {
			continue
		}
		if !errors.Is(err, errPurged) && !errors.Is(err, db.ErrNoProject) {
			return err
		}
	}
	return fmt.Errorf("after %d tries: %w", txTries, err)
}
