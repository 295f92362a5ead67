package api_test

import (
	"net/url"
	"time"

	"github.com/seed-245eaa15/obs/events"
)

func init() {
	routeCases["GET /v1/jobs"] = listCases("/v1/jobs", true)
	routeCases["GET /v1/teams/:teamId/jobs"] = func(w *world) []check {
		path := "/v1/teams/" + w.team + "/jobs"
		return append(listCases(path, false)(w),
			check{name: "another team's", request: request{path: "/v1/teams/" + w.foreign + "/jobs", key: "team"}, want: 404, has: map[string]any{"message": "Team not found"}},
			check{name: "odd id", request: request{path: "/v1/teams/a%00/jobs", key: "team"}, want: 404},
			check{name: "a project's key sees its project", request: request{path: path, key: "sibling"}, want: 200, has: map[string]any{"total": 0}},
		)
	}
	routeCases["GET /v1/projects/:projectId/jobs"] = func(w *world) []check {
		path := "/v1/projects/" + w.project + "/jobs"
		return append(listCases(path, false)(w),
			check{name: "another team's", request: request{path: "/v1/projects/" + w.abroad + "/jobs", key: "team"}, want: 404, has: map[string]any{"message": "Project not found"}},
			check{name: "unknown", request: request{path: "/v1/projects/nothing/jobs", key: "team"}, want: 404},
			check{name: "odd id", request: request{path: "/v1/projects/a%00/jobs", key: "team"}, want: 404},
			check{name: "by another project's key", request: request{path: path, key: "sibling"}, want: 404},
			check{name: "the other project is empty", request: request{path: "/v1/projects/" + w.sibling + "/jobs", key: "team"}, want: 200, has: map[string]any{"total": 0}},
		)
	}
	routeCases["GET /v1/jobs/:id"] = jobCases
	routeCases["GET /v1/jobs/:id/prompt"] = jobPromptCases
	routeCases["POST /v1/jobs/:id/retry"] = retryCases
	routeCases["POST /v1/jobs/:id/cancel"] = cancelCases
}

func listCases(path string, all bool) func(w *world) []check {
	return func(w *world) []check {
		held := w.posted("e0").str("generationJob.id")
		w.hold(held)
		done := w.posted("e1").str("generationJob.id")
		waiting := w.posted("e2").str("generationJob.id")
		w.settle(w.claim(done), events.Failed)
		list := func(query, key string) request { return request{path: path + "?" + query, key: key} }
		cases := []check{
			{
				name: "good", request: list("", "team"), want: 200,
				has: map[string]any{
					"total": 3, "limit": 50, "offset": 0, "jobs.0.id": waiting, "jobs.0.held": missing{}, "jobs.1.id": done, "jobs.1.status": "failed",
					"jobs.1.attempts": 1, "jobs.1.lastError": "because", "jobs.0.payload": missing{}, "jobs.0.lastError": nil,
				},
			},
			{name: "by status", request: list("status=failed", "team"), want: 200, has: map[string]any{"total": 1, "jobs.0.id": done}},
			{name: "held", request: list("status=held", "team"), want: 200, has: map[string]any{
				"total": 1, "jobs.0.id": held, "jobs.0.status": "queued", "jobs.0.attempts": 0, "jobs.0.held.reason": "used up", "jobs.0.lastError": nil,
			}},
			{name: "queued", request: list("status=queued", "team"), want: 200, has: map[string]any{"total": 2}},
			{name: "by no status", request: list("status=lost", "team"), want: 200, has: map[string]any{"total": 3}},
			{name: "a page", request: list("limit=1&offset=1", "project"), want: 200, has: map[string]any{"total": 3, "limit": 1, "offset": 1, "jobs.0.id": done, "jobs.1": missing{}}},
			{name: "clamped", request: list("limit=9999&offset=-5", "team"), want: 200, has: map[string]any{"limit": 200, "offset": 0}},
			{name: "no numbers", request: list("limit=many&offset=99999999999999999999", "team"), want: 200, has: map[string]any{"limit": 50, "offset": 0}},
			{name: "odd values", request: list("status=%00&source_type=%ff&since=%00", "team"), want: 200, has: map[string]any{"total": 3}},
		}
		if all {
			later := url.QueryEscape(time.Now().Add(time.Hour).Format(time.RFC3339))
			cases = append(cases,
				check{name: "by source", request: list("source_type=agent_event", "team"), want: 200, has: map[string]any{"total": 3}},
				check{name: "by another source", request: list("source_type=session_summary", "team"), want: 200, has: map[string]any{"total": 0, "jobs": []any{}}},
				check{name: "since later", request: list("since="+later, "team"), want: 200, has: map[string]any{"total": 0}},
				check{name: "since then", request: list("since=2020-01-01", "team"), want: 200, has: map[string]any{"total": 3}},
				check{name: "since ms", request: list("since=1577836800000", "team"), want: 200, has: map[string]any{"total": 3}},
				check{name: "since nonsense", request: list("since=yesterday", "team"), want: 200, has: map[string]any{"total": 3}},
				check{
					name: "payload without the scope", request: list("include=payload", "team"), want: 403,
					has: map[string]any{"error": "Forbidden", "message": "`include=payload` requires admin scope"},
				},
				check{name: "payload", request: list("include=payload", "star"), want: 200, says: `"payload":{`},
				check{name: "another team sees nothing", request: list("", "foreign"), want: 200, has: map[string]any{"total": 0, "jobs": []any{}}},
				check{name: "another project's key sees nothing", request: list("", "sibling"), want: 200, has: map[string]any{"total": 0}},
			)
		}
		return cases
	}
}

func jobCases(w *world) []check {
	posted := w.posted("e1")
	id := posted.str("generationJob.id")
	w.settle(w.claim(id), events.RetryScheduled)
	path := "/v1/jobs/" + id
	held := w.posted("e2").str("generationJob.id")
	w.hold(held)
	return []check{
		{name: "held", request: request{path: "/v1/jobs/" + held, key: "project"}, want: 200, has: map[string]any{
			"generationJob.status": "queued", "generationJob.held.reason": "used up", "generationJob.lastError": nil, "history.2.type": "released",
		}},
		{
			name: "good", request: request{path: path, key: "team"}, want: 200,
			has: map[string]any{
				"generationJob.id": id, "generationJob.status": "queued", "generationJob.jobType": "observation_generate_for_event", "generationJob.attempts": 1,
				"generationJob.agentEventId": posted.str("event.id"), "generationJob.serverSessionId": nil, "generationJob.lastError": "because",
				"history.0.version": 1, "history.0.type": "queued", "history.1.type": "processing", "history.1.process": "worker-1",
				"history.2.type": "retry_scheduled", "history.2.status": "queued", "history.2.attempt": 1, "history.2.reason": "because",
				"history.3": missing{},
			},
		},
		{name: "by a project's key", request: request{path: path, key: "project"}, want: 200},
		{name: "by another project's key", request: request{path: path, key: "sibling"}, want: 404, has: map[string]any{"message": "Generation job not found"}},
		{name: "by another team", request: request{path: path, key: "foreign"}, want: 404, has: map[string]any{"message": "Generation job not found"}},
	}
}

func retryCases(w *world) []check {
	path := func(id string) string { return "/v1/jobs/" + id + "/retry" }
	waiting := w.posted("e1").str("generationJob.id")
	failed := w.posted("e2").str("generationJob.id")
	w.settle(w.claim(failed), events.Failed)
	running := w.posted("e3").str("generationJob.id")
	w.claim(running)
	done := w.posted("e4").str("generationJob.id")
	w.settle(w.claim(done), events.Completed)
	held := w.posted("e5").str("generationJob.id")
	w.hold(held)
	return []check{
		{name: "held", request: request{path: path(held), key: "team"}, want: 200, has: map[string]any{
			"generationJob.status": "queued", "generationJob.held": missing{}, "generationJob.nextAttemptAtEpoch": nil, "retriedCount": 1, "alreadyQueued": false,
		}},
		{name: "processing", request: request{path: path(running), key: "team"}, want: 409, has: map[string]any{"error": "Conflict"}},
		{name: "completed", request: request{path: path(done), key: "team"}, want: 409, has: map[string]any{"error": "Conflict"}},
		{name: "by another project's key", request: request{path: path(failed), key: "sibling"}, want: 404},
		{name: "by another team", request: request{path: path(failed), key: "foreign"}, want: 404},
		{
			name: "good", request: request{path: path(failed), key: "team", body: "ignored"}, want: 200,
			has: map[string]any{"generationJob.status": "queued", "generationJob.attempts": 0, "retriedCount": 1, "alreadyQueued": false},
		},
		{name: "already queued", request: request{path: path(waiting), key: "project"}, want: 200, has: map[string]any{"alreadyQueued": true, "generationJob.status": "queued"}},
	}
}

func cancelCases(w *world) []check {
	path := func(id string) string { return "/v1/jobs/" + id + "/cancel" }
	waiting := w.posted("e1").str("generationJob.id")
	done := w.posted("e2").str("generationJob.id")
	w.settle(w.claim(done), events.Completed)
	running := w.posted("e3").str("generationJob.id")
	w.claim(running)
	return []check{
		{name: "completed", request: request{path: path(done), key: "team"}, want: 409, has: map[string]any{"error": "Conflict"}},
		{name: "by another project's key", request: request{path: path(waiting), key: "sibling"}, want: 404},
		{name: "by another team", request: request{path: path(waiting), key: "foreign"}, want: 404},
		{name: "good", request: request{path: path(waiting), key: "team"}, want: 200, has: map[string]any{"generationJob.status": "cancelled", "alreadyCancelled": false}},
		{name: "again", request: request{path: path(waiting), key: "team"}, want: 200, has: map[string]any{"generationJob.status": "cancelled", "alreadyCancelled": true}},
		{name: "while it runs", request: request{path: path(running), key: "team"}, want: 200, has: map[string]any{"generationJob.status": "cancelled"}},
	}
}

func jobPromptCases(w *world) []check {
	job := w.posted("e1").str("generationJob.id")
	path := "/v1/jobs/" + job + "/prompt"
	re := w.do(request{method: "POST", path: "/v1/reindex", key: "team", body: `{"projectId":"` + w.project + `"}`}).str("generationJob.id")
	return []check{
		{name: "form", request: request{path: path + "?form=prose", key: "star"}, want: 400, has: map[string]any{"error": "ValidationError", "issues.0.path.0": "form"}},
		{name: "good", request: request{path: path, key: "team"}, want: 200, has: map[string]any{
			"jobId": job, "task": "observe", "privateEvents": 0, "prompts.0.schema.type": "object", "prompts.0.leftOut": 0, "prompts.1": missing{},
		}, says: "<agent_event id="},
		{name: "grammar", request: request{path: path + "?form=grammar", key: "project"}, want: 200, has: map[string]any{"prompts.0.schema": nil}},
		{name: "a job that asks nobody", request: request{path: "/v1/jobs/" + re + "/prompt", key: "team"}, want: 409, has: map[string]any{"error": "Conflict"}},
		{name: "another project's key", request: request{path: path, key: "sibling"}, want: 404, has: map[string]any{"message": "Generation job not found"}},
		{name: "another team", request: request{path: path, key: "foreign"}, want: 404, has: map[string]any{"message": "Generation job not found"}},
	}
}
