package db_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/sqlc"
)

// rows is all that is stored of a job, without the times and the numbers that
// are different each time.
func (b bundle) rows(t *testing.T, id events.ID) string {
	t.Helper()
	var all string
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT json_build_object(
		'job', (SELECT to_jsonb(j) - '{id,source_id,ask,created_at,updated_at,next_attempt_at}'::text[] || jsonb_build_object('delay', j.next_attempt_at - j.created_at)
			FROM observation_generation_jobs j WHERE j.id = $1),
		'history', (SELECT jsonb_agg(to_jsonb(e) - '{job_id,at,next_at}'::text[] || jsonb_build_object('delay', e.next_at - e.at)) FROM observation_generation_job_events e WHERE e.job_id = $1),
		'outbox', (SELECT jsonb_agg(to_jsonb(o) - '{id,job_id,due_at,told,at,actor,process,build,request_id,schema}'::text[]) FROM outbox o WHERE o.job_id = $1),
		'due', (SELECT bool_and(o.id = j.ask AND o.due_at IS NOT DISTINCT FROM j.next_attempt_at) FROM outbox o JOIN observation_generation_jobs j ON j.id = o.job_id WHERE o.job_id = $1),
		'feed', (SELECT jsonb_agg(to_jsonb(f) - '{id,ids,ats,next_ats}'::text[] || jsonb_build_object('delay', NULLIF(f.next_ats[1], 'epoch') - f.ats[1])) FROM job_feed f WHERE f.ids = $1))::text`,
		id).Scan(&all))
	return all
}

// One job has a statement of its own, and what it stores is the same, once
// followers are told of it.
func TestAJobByItselfIsStoredAsOneOfMany(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, change := range map[string]func(*events.Step){
		"plain":   func(*events.Step) {},
		"delayed": func(st *events.Step) { st.Delay = 90 * time.Minute },
		"with most": func(st *events.Step) {
			st.Job.Args, st.Job.Priority, st.Job.MaxAttempts, st.Job.RequestID = json.RawMessage(`{"a": "b"}`), -3, 7, "req"
			st.Event.Actor, st.Event.RequestID = "key_1", "req"
		},
		"with all": func(st *events.Step) {
			st.Job.Args, st.Job.Priority, st.Job.MaxAttempts, st.Job.RequestID = json.RawMessage(`{"a": "b"}`), -3, 7, "req"
			st.Event.Actor, st.Event.Reason, st.Event.RequestID = "key_1", "because", "req"
		},
	} {
		one, a, c := step(t, name+" one"), step(t, name+" a"), step(t, name+" c")
		other := step(t, name+" other") // another actor, which c differs from, and so c has a row of the feed alone
		other.Event.Actor = "somebody else"
		for _, st := range []*events.Step{&one, &a, &c} {
			change(st)
		}
		require.NoError(t, db.InTx(t.Context(), b.pool, func(tx pgx.Tx) error {
			made, err := b.jobs.Add(t.Context(), tx, one)
			require.NoError(t, err)
			require.Len(t, made, 1)
			job, _, err := one.Next()
			require.NoError(t, err)
			job.CreatedAt, job.UpdatedAt = made[0].CreatedAt, made[0].UpdatedAt
			if one.Delay > 0 {
				job.NextAt = made[0].CreatedAt.Add(one.Delay)
			}
			require.Equal(t, job, *made[0])
			_, err = b.jobs.Add(t.Context(), tx, other, c)
			return err
		}))
		_, err := db.TellAtOnce(b.jobs).Fresh(t.Context(), 10)
		require.NoError(t, err)
		require.Equal(t, b.rows(t, c.Job.ID), b.rows(t, one.Job.ID), name)
		stored := b.get(t, one.Job.ID)
		require.Equal(t, one.Delay, max(0, stored.NextAt.Sub(stored.CreatedAt)), name)
	}
	found, err := b.jobs.Check(t.Context(), db.CheckConfig{})
	require.NoError(t, err)
	require.Empty(t, found)
}

// counts is how many rows the four tables have.
func (b bundle) counts(t *testing.T) (n [4]int) {
	t.Helper()
	for i, table := range large {
		require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT count(*) FROM `+table).Scan(&n[i]))
	}
	return n
}

// What is there already, or has no project, leaves nothing and not even a
// broken transaction; whatever became of the job meanwhile.
func TestAJobThatIsNotMadeLeavesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	jobs := b.enqueue(t, "waits", "held", "done")
	held := b.begin(t, events.Holder{ID: "w"}, jobs[1], jobs[2])
	b.settle(t, events.Event{Type: events.Completed, Actor: "worker"}, nil, held[1])
	before := b.counts(t)
	for _, c := range []struct {
		name  string
		scope events.Scope
		err   error
	}{
		{"waits", scope, nil},
		{"held", scope, nil},
		{"done", scope, nil},
		{"new", events.Scope{Team: "t", Project: "nowhere"}, db.ErrNoProject},
		{"new", events.Scope{Team: "t2", Project: "p"}, db.ErrNoProject},
		{"waits", events.Scope{Team: "t", Project: "p2"}, db.ErrNoProject},
	} {
		st := step(t, c.name)
		st.Job.Scope = c.scope
		require.NoError(t, db.InTx(t.Context(), b.pool, func(tx pgx.Tx) error {
			made, err := b.jobs.Add(t.Context(), tx, st)
			require.ErrorIs(t, err, c.err, c.name)
			if c.err == nil {
				require.Equal(t, []*events.Job{nil}, made, c.name)
			}
			_, err = tx.Exec(t.Context(), `SELECT 1`) // the transaction lives
			return err
		}))
	}
	for _, steps := range [][]events.Step{{step(t, "waits")}, {step(t, "done"), step(t, "held")}} { // in a transaction of its own
		added, err := b.jobs.Enqueue(t.Context(), nil, steps...)
		require.NoError(t, err)
		require.NotContains(t, added, true)
		steps[0].Job.Scope = other
		_, err = b.jobs.Enqueue(t.Context(), nil, steps...)
		require.NoError(t, err)
		steps[0].Job.Scope.Project = "p"
		_, err = b.jobs.Enqueue(t.Context(), nil, steps...)
		require.ErrorIs(t, err, db.ErrNoProject)
	}
	for _, n := range []int{1, 2} { // the schema does not check it
		steps := []events.Step{step(t, "new"), step(t, "newer")}
		steps[0].Job.SourceID = ""
		require.ErrorContains(t, db.InTx(t.Context(), b.pool, func(tx pgx.Tx) error {
			_, err := b.jobs.Add(t.Context(), tx, steps[:n]...)
			return err
		}), "source")
	}
	require.Equal(t, before, b.counts(t))
}

// A project cannot go while a job is made in it, nor be made in one that goes.
func TestAProjectStaysWhileAJobIsMadeInIt(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2} {
		b := setup(t)
		var steps []events.Step
		for i := range n {
			steps = append(steps, step(t, fmt.Sprint(i)))
		}
		tx, err := b.pool.Begin(t.Context())
		require.NoError(t, err)
		_, err = b.jobs.Add(t.Context(), tx, steps...)
		require.NoError(t, err)
		err = db.InTxSoon(t.Context(), b.pool, func(tx pgx.Tx, _ sqlc.DBTX) error {
			_, err := tx.Exec(t.Context(), `DELETE FROM projects WHERE id = 'p'`)
			return err
		})
		require.ErrorContains(t, err, "55P03")
		require.NoError(t, tx.Commit(t.Context()))

		going, err := b.pool.Begin(t.Context())
		require.NoError(t, err)
		_, err = going.Exec(t.Context(), `DELETE FROM projects WHERE id = 'p'`)
		require.NoError(t, err)
		late := make(chan error, 1)
		go func() {
			late <- db.InTx(t.Context(), b.pool, func(tx pgx.Tx) error {
				for i := range steps {
					steps[i].Job.ID += "late"
				}
				_, err := b.jobs.Add(t.Context(), tx, steps...)
				return err
			})
		}()
		require.Eventually(t, func() bool {
			var waits bool
			err := b.pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
				WHERE datname = current_database() AND NOT granted)`).Scan(&waits)
			return err == nil && waits
		}, time.Minute, time.Millisecond)
		require.NoError(t, going.Commit(t.Context()))
		require.ErrorIs(t, <-late, db.ErrNoProject)
		require.Equal(t, [4]int{0, 0, n, n - 1}, b.counts(t), "what the relay was to tell stays, what asks is cleared later")
	}
}

// Arguments are kept as they are, but for what no text of Postgres can be:
// whoever reads one field of them by SQL would fail.
func TestArgumentsAreKeptAsTheyAreOrRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := 0
	add := func(many bool, args string) (events.ID, error) {
		n++
		steps := []events.Step{step(t, fmt.Sprint("job ", n))}
		steps[0].Job.Args = json.RawMessage(args)
		if many {
			steps = append(steps, step(t, fmt.Sprint("beside ", n)))
		}
		_, err := b.jobs.Enqueue(t.Context(), nil, steps...)
		return steps[0].Job.ID, err
	}
	for _, many := range []bool{false, true} {
		for _, good := range []string{`{"b": 1,  "a":[1.50, 2]}`, `"a"`, `{"a":"\\u0000 \\ud800"}`, `{"a":"\u00e9\ud83d\ude00"}`} {
			id, err := add(many, good)
			require.NoError(t, err, good)
			require.JSONEq(t, good, string(b.get(t, id).Args))
			if !strings.Contains(good, `\u`) {
				require.Equal(t, good, string(b.get(t, id).Args))
			}
			claims, err := b.jobs.Look(t.Context(), events.Holder{ID: "w"}, []events.Envelope{b.get(t, id).Envelope()})
			require.NoError(t, err)
			require.Equal(t, b.get(t, id).Args, claims[0].Job.Args)
		}
		for _, bad := range []string{`{"a":"\u0000"}`, `{"a":"\ud800"}`, `{"a":"\\\u0000"}`} {
			_, err := add(many, bad)
			var pg *pgconn.PgError
			require.ErrorAs(t, err, &pg, bad)
			require.Equal(t, "22", pg.Code[:2], bad)
		}
	}
}
