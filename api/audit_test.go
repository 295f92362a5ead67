package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
)

type audited struct {
	ID, ActorID, Action, ResourceType, ResourceID string
	TeamID                                        string
	ProjectID, APIKeyID, RequestID, JobID         *string
	Details                                       map[string]any
	CreatedAtEpoch                                int64
}

// audit gives what GET /v1/audit tells the holder of the key.
func (w *world) audit(key, query string) []audited {
	w.t.Helper()
	a := w.do(request{method: "GET", path: "/v1/audit?limit=500&" + query, key: key})
	require.Equal(w.t, http.StatusOK, a.status, a.text)
	var body struct{ Audit []audited }
	require.NoError(w.t, json.Unmarshal([]byte(a.text), &body))
	return body.Audit
}

// asked does a request that carries an id, which the audit is to know it by.
func (w *world) asked(id, method, path, key, body string) answer {
	w.t.Helper()
	a := w.do(request{method: method, path: path, key: key, body: body, header: map[string]string{"X-Request-Id": id}})
	require.Less(w.t, a.status, 300, a.text)
	return a
}

// auditWas finds the one entry of that action by that request, and checks who
// it names.
func (w *world) auditWas(action, request, key, job, resource string) audited {
	w.t.Helper()
	var found []audited
	for _, e := range w.audit("star", "action="+action) {
		if e.RequestID != nil && *e.RequestID == request && e.JobID == nil == (job == "") && (job == "" || *e.JobID == job) {
			found = append(found, e)
		}
	}
	require.Len(w.t, found, 1, "%s by %s", action, request)
	e := found[0]
	require.Equal(w.t, action, e.Action)
	require.Equal(w.t, "tester", e.ActorID, action)
	require.NotNil(w.t, e.APIKeyID, action)
	require.Equal(w.t, w.keys[key].ID, *e.APIKeyID, action)
	require.Equal(w.t, w.team, e.TeamID, action)
	if resource != "" {
		require.Equal(w.t, resource, e.ResourceID, action)
	}
	return e
}

// What is done over HTTP and MCP is in the audit, with who, by which key, in
// which request, and about which job. What the command line does is tested
// with it (cmd/obs).
func TestEveryActionIsAudited(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	n := 0
	do := func(method, path, key, body string) (answer, string) {
		n++
		id := fmt.Sprint("req-", n)
		return w.asked(id, method, path, key, body), id
	}
	event, id := do("POST", "/v1/events", "team", w.event("one"))
	job := event.str("generationJob.id")
	w.auditWas("event.received", id, "team", job, event.str("event.id"))
	w.auditWas("generation_job.queued", id, "team", job, job)
	_, id = do("POST", "/v1/events/batch", "project", "["+w.event("two")+","+w.event("three")+"]")
	w.auditWas("event.batch_received", id, "project", "", "")

	start := fmt.Sprintf(`{"projectId":%q,"externalSessionId":"s"}`, w.project)
	session, id := do("POST", "/v1/sessions/start", "team", start)
	ses := session.str("session.id")
	w.auditWas("session.start", id, "team", "", ses)
	_, id = do("POST", "/v1/sessions/start", "project", start)
	w.auditWas("session.write", id, "project", "", ses)
	end, id := do("POST", "/v1/sessions/"+ses+"/end", "project", "")
	w.auditWas("session.end", id, "project", end.str("generationJob.id"), ses)

	memory, id := do("POST", "/v1/memories", "team", fmt.Sprintf(`{"projectId":%q,"content":"remember"}`, w.project))
	mem := memory.str("memory.id")
	w.auditWas("memory.write", id, "team", "", mem)
	_, id = do("PATCH", "/v1/memories/"+mem, "team", `{"content":"remember it"}`)
	require.Equal(t, true, w.auditWas("memory.write", id, "team", "", mem).Details["edited"])
	_, id = do("DELETE", "/v1/memories/"+mem, "team", "")
	w.auditWas("observation.deleted", id, "team", "", mem)

	query := fmt.Sprintf(`{"projectId":%q,"query":"x"}`, w.project)
	for mode, r := range map[string]request{
		"search":             {method: "POST", path: "/v1/search", body: query},
		"context":            {method: "POST", path: "/v1/context", body: query},
		"event_observations": {method: "GET", path: "/v1/events/" + event.str("event.id") + "/observations"},
		"team_jobs":          {method: "GET", path: "/v1/teams/" + w.team + "/jobs"},
		"project_jobs":       {method: "GET", path: "/v1/projects/" + w.project + "/jobs"},
		"jobs_list":          {method: "GET", path: "/v1/jobs"},
	} {
		_, id = do(r.method, r.path, "team", r.body)
		e := w.auditWas("observation.read", id, "team", "", "")
		require.Equal(t, mode, e.Details["mode"])
		require.NotContains(t, e.Details, "via")
	}
	mcp := w.connect(w.serve(), "project")
	for i, name := range []string{"search", "context", "recent"} {
		_, failed := use(t, mcp, name, m{"projectId": w.project, "query": "x"})
		require.False(t, failed)
		e := w.audit("star", "action=observation.read")[0]
		require.Equal(t, name, e.Details["mode"], i)
		require.Equal(t, "mcp", e.Details["via"])
		require.Equal(t, w.keys["project"].ID, *e.APIKeyID)
		require.NotEmpty(t, e.RequestID)
	}

	_, id = do("POST", "/v1/jobs/"+job+"/cancel", "project", "")
	w.auditWas("generation_job.cancelled_by_operator", id, "project", job, job)
	_, id = do("POST", "/v1/jobs/"+job+"/retry", "star", "")
	w.auditWas("generation_job.retried_by_operator", id, "star", job, job)
	require.Empty(t, w.audit("star", "action=generation_job.cancelled"), "it is told once")

	// What follows is done for who asked last.
	var row int64
	require.NoError(t, w.pool.QueryRow(t.Context(), "SELECT id FROM outbox WHERE job_id = $1", job).Scan(&row))
	require.NoError(t, w.jobs.Enqueued(t.Context(), []int64{row}))
	require.Equal(t, "relay", w.auditWas("generation_job.enqueued", id, "star", job, job).Details["by"])
	_, err := w.jobs.Again(t.Context(), []int64{row})
	require.NoError(t, err)
	require.Equal(t, "its message was lost", w.auditWas("generation_job.stalled", id, "star", job, job).Details["reason"])
	w.settle(w.claim(job), events.Failed)
	require.Equal(t, "worker", w.auditWas("generation_job.processing", id, "star", job, job).Details["by"])
	require.Equal(t, "because", w.auditWas("generation_job.failed", id, "star", job, job).Details["reason"])

	w.svc.Refused(t.Context(), events.Envelope{Job: events.ID(job), Scope: events.Scope{Team: w.foreign, Project: w.abroad}}, nil, events.ErrScope)
	violation := w.audit("star", "action=generation_job.scope_violation")
	require.Len(t, violation, 1)
	require.Equal(t, job, *violation[0].JobID)
	require.Equal(t, "worker", violation[0].ActorID, "it came from nobody's request")

	reindex, id := do("POST", "/v1/reindex", "team", fmt.Sprintf(`{"projectId":%q}`, w.project))
	w.auditWas("observation.reindexed", id, "team", reindex.str("generationJob.id"), "")
	key, id := do("POST", "/v1/keys", "star", `{"label":"x"}`)
	w.auditWas("api_key.create", id, "star", "", key.str("id"))
	_, id = do("POST", "/v1/keys/"+key.str("id")+"/revoke", "star", "")
	w.auditWas("api_key.revoke", id, "star", "", key.str("id"))
	_, id = do("DELETE", "/v1/projects/"+w.project+"/memory", "star", "")
	w.auditWas("project.memory_purged", id, "star", "", w.project)

	require.Empty(t, w.audit("star", "action=generation_job.failed"), "the job is gone")
	require.Len(t, w.audit("star", "action=generation_job.retried_by_operator"), 1, "what somebody did stays")
}

// The steps that a worker makes, and what it leaves, name who asked.
func TestWhatAJobDoesIsAudited(t *testing.T) {
	t.Parallel()
	l := newLive(t, 2, nil)
	done := func(job string) events.Status {
		l.t.Helper()
		require.Eventually(t, func() bool { return l.job(job).Status.Settled() }, patience, look)
		return l.job(job).Status
	}
	job := l.asked("one", "POST", "/v1/events", "project", l.event("one")).str("generationJob.id")
	require.Equal(t, events.StatusCompleted, done(job))
	for _, action := range []string{"generation_job.queued", "generation_job.processing", "generation_job.completed", "observation.generated"} {
		e := l.auditWas(action, "one", "project", job, job)
		require.Equal(t, l.project, *e.ProjectID)
	}
	created := l.audit("star", "action=observation.created")
	require.Len(t, created, 2)
	for _, e := range created {
		require.Equal(t, job, *e.JobID)
		require.Equal(t, "one", *e.RequestID)
		require.Equal(t, l.keys["project"].ID, *e.APIKeyID)
		require.Equal(t, "tester", e.ActorID)
		require.Equal(t, "observation", e.ResourceType)
		require.Equal(t, "discovery", e.Details["kind"])
	}
	require.InDelta(t, 2, l.auditWas("observation.generated", "one", "project", job, job).Details["observations"], 0)

	session := l.asked("two", "POST", "/v1/sessions/start", "team", fmt.Sprintf(`{"projectId":%q,"externalSessionId":"s"}`, l.project)).str("session.id")
	summary := l.asked("three", "POST", "/v1/sessions/"+session+"/end", "team", "").str("generationJob.id")
	require.Equal(t, events.StatusCompleted, done(summary))
	l.auditWas("session_summary.generated", "three", "team", summary, summary)

	// A key that is revoked before its job begins, and one that is replaced.
	l.issue("leaked", l.team, l.project, []string{observe.ScopeWrite}, time.Time{})
	l.issue("old", l.team, l.project, []string{observe.ScopeWrite}, time.Time{})
	l.stopBroker()
	lost := l.asked("four", "POST", "/v1/events", "leaked", l.event("four")).str("generationJob.id")
	kept := l.asked("five", "POST", "/v1/events", "old", l.event("five")).str("generationJob.id")
	l.asked("six", "POST", "/v1/keys/"+l.keys["leaked"].ID+"/revoke", "star", "")
	_, _, err := l.svc.RotateKey(t.Context(), l.caller("star"), l.keys["old"].ID)
	require.NoError(t, err)
	l.broker()
	require.Equal(t, events.StatusCompleted, done(kept), "a rotated key's jobs go on")
	require.Equal(t, events.StatusFailed, done(lost))
	require.Equal(t, "revoked_key", l.job(lost).LastError)
	l.auditWas("generation_job.revoked_key", "four", "leaked", lost, lost)
	require.Empty(t, l.audit("star", "action=generation_job.failed"))

	l.asked("seven", "POST", "/v1/jobs/"+lost+"/retry", "star", "")
	require.Equal(t, events.StatusCompleted, done(lost), "somebody else asked for it")
	l.auditWas("generation_job.completed", "seven", "star", lost, lost)
}
