package db_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
)

// world has a job in every status, and an observation by the completed one.
func world(t *testing.T) (bundle, map[string]events.ID) {
	t.Helper()
	b := setup(t)
	w := events.Holder{ID: "w1", Slots: map[events.Kind]int{"event": 2}}
	require.NoError(t, b.jobs.Seen(t.Context(), w))
	b.exec(t, `INSERT INTO agent_events (id, team_id, project_id, source_adapter, idempotency_key, event_type, occurred_at)
	           VALUES ('ae1', 't', 'p', 'hook', 'k1', 'tool_use', now()), ('ae2', 't2', 'p2', 'hook', 'k1', 'tool_use', now())`)
	about, err := events.New(events.Job{
		ID: events.NewID("event", "about"), Kind: "event", Scope: scope, SourceType: "agent_event", SourceID: "ae1",
	}, events.Event{Actor: "test"})
	require.NoError(t, err)
	require.NoError(t, db.InTx(t.Context(), b.pool, func(tx pgx.Tx) error {
		_, err := b.jobs.Enqueue(t.Context(), tx, about)
		return err
	}))
	js := b.enqueue(t, "queued", "processing", "failed", "cancelled", "retried")
	held := b.begin(t, w, b.get(t, about.Job.ID), js[1], js[2], js[4])
	b.settle(t, events.Event{Type: events.Completed, Actor: "worker"}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, fmt.Sprintf(`
			INSERT INTO observations (id, team_id, project_id, kind, content, generation_key, created_by_job_id)
			VALUES ('o1', 't', 'p', 'discovery', 'x', 'g1', '%[1]s');
			INSERT INTO observation_sources (id, team_id, project_id, observation_id, source_type, source_id, generation_job_id)
			VALUES ('s1', 't', 'p', 'o1', 'agent_event', 'ae1', '%[1]s')`, about.Job.ID))
		return err
	}, held[0])
	b.settle(t, events.Event{Type: events.Failed, Actor: "worker", Reason: "no"}, nil, held[2], held[3])
	audit := `INSERT INTO audit_log (team_id, project_id, actor_id, action, resource_type, job_id) VALUES ('t', 'p', 'op', $1, 'observation_generation_job', $2)`
	b.exec(t, audit, "generation_job.cancelled_by_operator", js[3].ID)
	b.exec(t, audit, "generation_job.retried_by_operator", js[4].ID)
	errs, err := b.jobs.Move(t.Context(), nil, []events.Step{
		{Job: js[3], Event: events.Event{Type: events.Cancelled, Actor: "op"}},
		{Job: b.get(t, js[4].ID), Event: events.Event{Type: events.Queued, Actor: "op"}},
	})
	require.NoError(t, err)
	require.Equal(t, []error{nil, nil}, errs)
	return b, map[string]events.ID{
		"queued": js[0].ID, "processing": js[1].ID, "failed": js[2].ID, "cancelled": js[3].ID, "retried": js[4].ID, "completed": about.Job.ID,
	}
}

func TestCheckFindsNothingOnAHealthyDatabase(t *testing.T) {
	t.Parallel()
	b, _ := world(t)
	found, err := b.jobs.Check(t.Context(), db.CheckConfig{Page: 2})
	require.NoError(t, err)
	require.Empty(t, found)
}

// Each case breaks one thing, after taking away what guards it in the schema.
func TestCheckFindsEachBrokenInvariant(t *testing.T) {
	t.Parallel()
	const history = "observation_generation_job_events"
	const jobs = "observation_generation_jobs"
	for _, c := range []struct {
		name, invariant string
		sql             string // %s is the job named by on
		on              string
	}{
		{"row differs", "I1", `UPDATE ` + jobs + ` SET last_error = 'other' WHERE id = '%s'`, "failed"},
		{"time differs", "I1", `UPDATE ` + jobs + ` SET completed_at = completed_at - interval '1 s' WHERE id = '%s'`, "completed"},
		{"history without a row", "I1", `ALTER TABLE ` + history + ` DISABLE TRIGGER ALL; UPDATE ` + history + ` SET job_id = 'gone' WHERE job_id = '%s'`, "failed"},
		{"gap", "I2", `DELETE FROM ` + history + ` WHERE job_id = '%s' AND version = 2`, "failed"},
		{"row ahead of its history", "I2", `UPDATE ` + jobs + ` SET version = version + 1 WHERE id = '%s'`, "queued"},
		{"forbidden step", "I3", `ALTER TABLE ` + history + ` DISABLE TRIGGER ALL; UPDATE ` + history + ` SET event_type = 'completed' WHERE job_id = '%s' AND version = 2`, "failed"},
		{"status told wrongly", "I3", `ALTER TABLE ` + history + ` DISABLE TRIGGER ALL; UPDATE ` + history + ` SET status_after = 'failed' WHERE job_id = '%s' AND version = 2`, "completed"},
		{"completed twice", "I4", `INSERT INTO ` + history + ` (job_id, version, team_id, project_id, event_type, status_after, attempt, at, schema)
			SELECT job_id, version + 1, team_id, project_id, event_type, status_after, attempt, at, schema FROM ` + history + ` WHERE job_id = '%s' AND version = 3`, "completed"},
		{"attempts miscounted", "I5", `UPDATE ` + jobs + ` SET attempts = 2 WHERE id = '%s'`, "processing"},
		{"orphan", "I6", `DELETE FROM outbox WHERE job_id = '%s'`, "queued"},
		{"held by nobody", "I6", `DELETE FROM workers; SELECT '%s'`, "processing"},
		{"settled and asked for", "I7", `INSERT INTO outbox (job_id, team_id, project_id, job_type, asked) VALUES ('%s', 't', 'p', 'event', 1)`, "completed"},
		{"asked for wrongly", "I7", `UPDATE outbox SET asked = 7 WHERE job_id = '%s'`, "queued"},
		{"asked for and not there", "I7", `INSERT INTO outbox (job_id, team_id, project_id, job_type, asked) VALUES ('nobody', 't', 'p', 'event', 1); SELECT '%s'`, "queued"},
		{"observation of a failed job", "I8", `UPDATE observations SET created_by_job_id = '%s'`, "failed"},
		{"observation without a source", "I8", `DELETE FROM observation_sources; SELECT '%s'`, "completed"},
		{"source of another job", "I8", `UPDATE observation_sources SET generation_job_id = '%s'`, "failed"},
		{"generation key twice", "I8", `INSERT INTO observations (id, team_id, project_id, kind, content, generation_key) VALUES ('o2', 't', 'p', 'x', 'x', 'g1'); SELECT '%s'`, "completed"},
		{"source of another tenant", "I9", `UPDATE observation_sources SET source_id = 'ae2'; SELECT '%s'`, "completed"},
		{"job about another tenant's event", "I9", `UPDATE ` + jobs + ` SET source_id = 'ae2' WHERE id = '%s'`, "completed"},
		{"event in another tenant's session", "I9", `INSERT INTO server_sessions (id, team_id, project_id) VALUES ('x', 't2', 'p2');
			UPDATE agent_events SET server_session_id = 'x' WHERE id = 'ae1'; SELECT '%s'`, "queued"},
		{"observation in no session", "I9", `UPDATE observations SET server_session_id = 'gone' WHERE created_by_job_id = '%s'`, "completed"},
		{"observation in another tenant's session", "I9", `INSERT INTO server_sessions (id, team_id, project_id) VALUES ('x', 't2', 'p2');
			UPDATE observations SET server_session_id = 'x' WHERE created_by_job_id = '%s'`, "completed"},
		{"observation in no project", "I9", `INSERT INTO observations (id, team_id, project_id, kind, content) VALUES ('o2', 't', 'p2', 'x', 'x'); SELECT '%s'`, "completed"},
		{"source of no observation", "I9", `INSERT INTO observation_sources (id, team_id, project_id, observation_id, source_type, source_id, generation_job_id)
			VALUES ('s2', 't', 'p', 'gone', 'agent_event', 'ae1', '%s')`, "completed"},
		{"source of another tenant's observation", "I9", `INSERT INTO observation_sources (id, team_id, project_id, observation_id, source_type, source_id, generation_job_id)
			VALUES ('s2', 't2', 'p2', 'o1', 'agent_event', 'ae2', '%s')`, "completed"},
		{"words of no project", "I9", `INSERT INTO observation_words (team_id, project_id, lexeme, word) VALUES ('t', 'p2', 'x', 'x'); SELECT '%s'`, "completed"},
		{"audit of no team", "I9", `INSERT INTO audit_log (team_id, actor_id, action, resource_type) VALUES ('gone', 'x', 'x', 'x'); SELECT '%s'`, "completed"},
		{"audit of no project", "I9", `INSERT INTO audit_log (team_id, project_id, actor_id, action, resource_type) VALUES ('t', 'p2', 'x', 'x', 'x'); SELECT '%s'`, "completed"},
		{"event in no session", "I9", `UPDATE agent_events SET server_session_id = 'nowhere' WHERE id = 'ae1'; SELECT '%s'`, "queued"},
		{"event in another team's project", "I9", `INSERT INTO agent_events (id, team_id, project_id, source_adapter, idempotency_key, event_type, occurred_at) VALUES ('ae3', 't', 'p2', 'hook', 'k3', 'x', now()); SELECT '%s'`, "queued"},
		{"audit under another tenant", "I9", `INSERT INTO audit_log (team_id, project_id, actor_id, action, resource_type, job_id) VALUES ('t2', 'p2', 'x', 'x', 'x', '%s')`, "completed"},
		{"history under another tenant", "I9", `ALTER TABLE ` + history + ` DISABLE TRIGGER ALL; UPDATE ` + history + ` SET team_id = 't2' WHERE job_id = '%s' AND version = 2`, "completed"},
		{"locked and queued", "I12", `UPDATE ` + jobs + ` SET locked_by = 'w1' WHERE id = '%s'`, "queued"},
		{"back in time", "I13", `ALTER TABLE ` + history + ` DISABLE TRIGGER ALL; UPDATE ` + history + ` SET at = at - interval '1 h' WHERE job_id = '%s' AND version = 3`, "completed"},
		{"event key twice", "I14", `INSERT INTO agent_events (id, team_id, project_id, source_adapter, idempotency_key, event_type, occurred_at) VALUES ('ae3', 't', 'p', 'hook', 'k1', 'x', now()); SELECT '%s'`, "queued"},
		{"two summaries", "I8", `INSERT INTO observations (id, team_id, project_id, kind, content) VALUES ('sum1', 't', 'p', 'summary', 'x'), ('sum2', 't', 'p', 'summary', 'x');
			INSERT INTO observation_sources (id, team_id, project_id, observation_id, source_type, source_id)
			SELECT id, 't', 'p', id, 'session_summary', 'ses' FROM observations WHERE id IN ('sum1', 'sum2'); SELECT '%s'`, "completed"},
		{"two jobs for one work", "I14", `UPDATE ` + jobs + ` SET source_id = 'failed' WHERE id = '%s'`, "queued"},
		{"operator not in the audit log", "I16", `DELETE FROM audit_log WHERE job_id = '%s'`, "retried"},
		{"operator's cancel not in the audit log", "I16", `DELETE FROM audit_log WHERE job_id = '%s'`, "cancelled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b, ids := world(t)
			conn, err := b.pool.Acquire(t.Context())
			require.NoError(t, err)
			defer conn.Release()
			_, err = conn.Conn().PgConn().Exec(t.Context(), fmt.Sprintf(c.sql, ids[c.on])).ReadAll()
			require.NoError(t, err)

			found, err := b.jobs.Check(t.Context(), db.CheckConfig{})
			require.NoError(t, err)
			var names []string
			for _, f := range found {
				names = append(names, f.Invariant)
			}
			require.Contains(t, names, c.invariant, "%v", found)
		})
	}
}
