package observe

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/fault"
	"github.com/seed-245eaa15/obs/sqlc"
)

const (
	groupsAtOnce = 2        // transactions that record under way, besides those that wait for a lock
	crowd        = 32       // events that have to wait for the second
	maxGroup     = MaxBatch // events in one of them; a request's own stay together
	divided      = 200      // events of which one takes half
	fewAsked     = 8        // jobs that the relay is told of by name, at most; more are read as fast
)

// recorder stores what requests bring: those that come while the last
// transactions are under way share the next one (docs/adr/0016).
//
// One tenant must not hold up another's. So a shared transaction waits for
// nobody: it passes over a project that somebody has locked, and gives up soon
// on any other lock. What it passes over waits with others of the same project
// in a transaction of its own, and so does what comes for that project as long
// as somebody waits there. Few of those are under way at once: who waits for
// locks does not take all connections.
type recorder struct {
	s      *Service
	shared *gatherer[*recording]
	slots  chan struct{} // one for each transaction that may wait for a lock

	mu    sync.Mutex
	lanes map[string]*lane // by project
}

// lane is where the requests of a project wait whose rows somebody holds.
type lane struct {
	*gatherer[*recording]
	waiting int // requests; with the last one the lane goes
}

// recording is a request on its way into a transaction.
type recording struct {
	c      Caller
	o      RecordOptions
	ready  []incoming
	events int // with those that are there twice

	answer []Recorded // of each of ready
	err    error      // this one's own: nothing of it is stored
	held   string     // a project of it that somebody holds
}

func newRecorder(s *Service) *recorder {
	slots := int32(1)
	if s.pool != nil { // nil where nothing is recorded
		slots = max(slots, s.pool.Config().MaxConns/4)
	}
	r := &recorder{s: s, lanes: map[string]*lane{}, slots: make(chan struct{}, slots)}
	r.shared = &gatherer[*recording]{atOnce: groupsAtOnce, crowd: crowd, most: maxGroup, split: divided, run: r.share}
	return r
}

// do records, and returns after the commit. When ctx ends first the outcome is
// not known; sent again, the same events are the same events.
func (r *recorder) do(ctx context.Context, rec *recording) error {
	project := r.waited(rec)
	if project == "" {
		if err := r.shared.do(ctx, rec, len(rec.ready)); err != nil {
			return err
		}
		project = rec.held
	}
	if project != "" {
		if free, ok := ctx.Value(onHold{}).(func()); ok {
			free()
		}
		l := r.enter(project)
		defer r.leave(project, l)
		if err := l.do(ctx, rec, len(rec.ready)); err != nil {
			return err
		}
	}
	return rec.err
}

type onHold struct{}

// OnHold has fn called in a call of Record when it begins to wait for somebody
// who holds rows of the project: what it has of others' is to be free then.
func OnHold(ctx context.Context, fn func()) context.Context {
	return context.WithValue(ctx, onHold{}, fn)
}

// waited is a project of the request that others wait for, "" if there is none.
func (r *recorder) waited(rec *recording) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.lanes) > 0 {
		for i := range rec.ready {
			if project := rec.ready[i].ProjectID; r.lanes[project] != nil {
				return project
			}
		}
	}
	return ""
}

func (r *recorder) enter(project string) *lane {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.lanes[project]
	if l == nil {
		l = &lane{gatherer: &gatherer[*recording]{atOnce: 1, most: maxGroup, run: r.wait}}
		r.lanes[project] = l
	}
	l.waiting++
	return l
}

func (r *recorder) leave(project string, l *lane) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.waiting--; l.waiting == 0 {
		delete(r.lanes, project)
	}
}

// share records in a transaction that waits for nobody. Who would have to is
// marked as held.
func (r *recorder) share(ctx context.Context, recs []*recording) error {
	err := r.try(ctx, recs, false)
	switch {
	case err == nil:
		return nil
	case !isLocked(err):
		return r.halve(ctx, recs, err, r.share)
	}
	// Nobody knows which of them waits: each project is tried by itself.
	parts := byProject(recs)
	if len(parts) == 1 {
		for _, rec := range recs {
			rec.held = rec.ready[0].ProjectID
		}
		return nil
	}
	for _, part := range parts {
		r.apart(ctx, part, r.share)
	}
	return nil
}

// wait records in a transaction that waits for locks.
func (r *recorder) wait(ctx context.Context, recs []*recording) error {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
		return r.waitAll(ctx, recs)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *recorder) waitAll(ctx context.Context, recs []*recording) error {
	if err := r.try(ctx, recs, true); err != nil {
		return r.halve(ctx, recs, err, r.waitAll)
	}
	return nil
}

// halve runs a group that has failed in two parts, and those again, until
// what failed because of one request fails for that one alone.
func (r *recorder) halve(ctx context.Context, recs []*recording, err error, run runner[*recording]) error {
	if len(recs) == 1 || !isRequests(err) {
		return err
	}
	r.apart(ctx, recs[:len(recs)/2], run)
	r.apart(ctx, recs[len(recs)/2:], run)
	return nil
}

// apart runs a part of a group, whose error is only that part's.
func (r *recorder) apart(ctx context.Context, recs []*recording, run runner[*recording]) {
	if err := run(ctx, recs); err != nil {
		for _, rec := range recs {
			rec.err = err
		}
	}
}

// try records in one transaction, and again after a deadlock or the like.
func (r *recorder) try(ctx context.Context, recs []*recording, patient bool) error {
	asked, asks := false, []events.Envelope(nil)
	once := func(tx pgx.Tx, last sqlc.DBTX) error {
		g := group{s: r.s, tx: tx, q: r.s.q.WithTx(tx), last: sqlc.New(last), patient: patient, recs: recs}
		err := g.store(ctx)
		asked, asks = g.asked, g.due
		fault.At("record.stored")
		return err
	}
	err := r.s.again(func() error {
		if patient {
			return db.InTx(ctx, r.s.pool, func(tx pgx.Tx) error { return once(tx, tx) })
		}
		return db.InTxSoon(ctx, r.s.pool, once)
	})
	if err != nil {
		return err
	}
	fault.At("record.committed")
	r.s.ring(asked, asks...)
	return nil
}

// byProject divides requests by the project of their first event, in order.
func byProject(recs []*recording) [][]*recording {
	var parts [][]*recording
	at := map[string]int{}
	for _, rec := range recs {
		project := rec.ready[0].ProjectID
		i, ok := at[project]
		if !ok {
			i = len(parts)
			at[project] = i
			parts = append(parts, nil)
		}
		parts[i] = append(parts[i], rec)
	}
	return parts
}

// isRequests reports whether the transaction was surely rolled back, and
// because of something in it: not because Postgres is away or full, and not
// with an outcome that nobody knows.
func isRequests(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.SeverityUnlocalized == "ERROR" && !strings.HasPrefix(pg.Code, "53") && !strings.HasPrefix(pg.Code, "57")
	}
	return errors.Is(err, errPurged) || errors.Is(err, db.ErrNoProject)
}

// isLocked reports whether somebody holds a lock for longer than one waits.
func isLocked(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == lockNotAvailable
}
