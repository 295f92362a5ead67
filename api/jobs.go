package api

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
)

// briefJobBody is the job as the one who asked for it sees it.
type briefJobBody struct {
	ID           events.ID     `json:"id"`
	Status       events.Status `json:"status"`
	MessageID    string        `json:"bullmqJobId"`
	SourceType   string        `json:"sourceType"`
	SourceID     string        `json:"sourceId"`
	Transport    string        `json:"transport"`
	CreatedEpoch int64         `json:"createdAtEpoch"`
	UpdatedEpoch int64         `json:"updatedAtEpoch"`
}

func asBrief(j events.Job) briefJobBody {
	return briefJobBody{
		ID: j.ID, Status: j.Status, MessageID: observe.TransportID(j), SourceType: j.SourceType, SourceID: j.SourceID,
		Transport: transport(j), CreatedEpoch: epoch(j.CreatedAt), UpdatedEpoch: epoch(j.UpdatedAt),
	}
}

// transport says whether the job is on its way to a worker. It always is,
// from the commit on, because the outbox row is in the same commit; unless it
// was settled before, and nothing is left to do.
func transport(j events.Job) string {
	if j.Status.Settled() {
		return "skipped"
	}
	return "enqueued"
}

type waitedJobBody struct {
	briefJobBody
	Attempts    int `json:"attempts"`
	MaxAttempts int `json:"maxAttempts"`
}

func asWaited(j events.Job, transport string) waitedJobBody {
	b := waitedJobBody{asBrief(j), j.Attempts, j.MaxAttempts}
	b.Transport = transport
	return b
}

// jobBody is the whole job, but for its arguments.
type jobBody struct {
	ID              events.ID     `json:"id"`
	ProjectID       string        `json:"projectId"`
	TeamID          string        `json:"teamId"`
	SourceType      string        `json:"sourceType"`
	SourceID        string        `json:"sourceId"`
	AgentEventID    *string       `json:"agentEventId"`
	ServerSessionID *string       `json:"serverSessionId"`
	JobType         string        `json:"jobType"`
	Status          events.Status `json:"status"`
	MessageID       string        `json:"bullmqJobId"`
	Attempts        int           `json:"attempts"`
	MaxAttempts     int           `json:"maxAttempts"`
	NextEpoch       *int64        `json:"nextAttemptAtEpoch"`
	CompletedEpoch  *int64        `json:"completedAtEpoch"`
	FailedEpoch     *int64        `json:"failedAtEpoch"`
	CancelledEpoch  *int64        `json:"cancelledAtEpoch"`
	LastError       *string       `json:"lastError"`
	CreatedEpoch    int64         `json:"createdAtEpoch"`
	UpdatedEpoch    int64         `json:"updatedAtEpoch"`
	Held            *heldBody     `json:"held,omitempty"`
}

// heldBody says why a queued job is put off, and until when.
type heldBody struct {
	Reason     string `json:"reason"`
	UntilEpoch int64  `json:"untilEpoch"`
}

func asHeld(j events.Job, why map[events.ID]string) *heldBody {
	if reason, held := why[j.ID]; held {
		return &heldBody{reason, epoch(j.NextAt)}
	}
	return nil
}

func asJob(j events.Job) jobBody {
	return jobBody{
		ID: j.ID, ProjectID: j.Scope.Project, TeamID: j.Scope.Team, SourceType: j.SourceType, SourceID: j.SourceID,
		JobType: observe.JobType(j.Kind), Status: j.Status, MessageID: observe.TransportID(j),
		Attempts: j.Attempts, MaxAttempts: j.MaxAttempts, NextEpoch: epochOrNull(j.NextAt),
		CompletedEpoch: epochOrNull(j.CompletedAt), FailedEpoch: epochOrNull(j.FailedAt),
		CancelledEpoch: epochOrNull(j.CancelledAt), LastError: textOrNull(j.LastError),
		AgentEventID: textOrNull(observe.JobAgentEvent(j)), ServerSessionID: textOrNull(observe.JobSession(j)),
		CreatedEpoch: epoch(j.CreatedAt), UpdatedEpoch: epoch(j.UpdatedAt),
	}
}

func textOrNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// listedJobBody is a job in a list.
type listedJobBody struct {
	ID             events.ID       `json:"id"`
	ProjectID      string          `json:"projectId"`
	TeamID         string          `json:"teamId"`
	SourceType     string          `json:"sourceType"`
	SourceID       string          `json:"sourceId"`
	Status         events.Status   `json:"status"`
	Attempts       int             `json:"attempts"`
	MaxAttempts    int             `json:"maxAttempts"`
	CreatedEpoch   int64           `json:"createdAtEpoch"`
	CompletedEpoch *int64          `json:"completedAtEpoch"`
	FailedEpoch    *int64          `json:"failedAtEpoch"`
	LastError      *string         `json:"lastError"`
	Held           *heldBody       `json:"held,omitempty"`
	Payload        json.RawMessage `json:"payload,omitempty"`
}

type jobsBody struct {
	Jobs      []listedJobBody `json:"jobs"`
	Total     int             `json:"total"`
	Limit     int             `json:"limit"`
	Offset    int             `json:"offset"`
	RequestID string          `json:"requestId,omitempty"` // of GET /v1/jobs alone
}

type jobsRequest struct {
	filter observe.JobFilter
	team   string // empty: the caller's
}

// page reads what all three lists have. A filter that no job can fit is
// ignored, as claude-mem does.
func (r *jobsRequest) page(in *input) {
	r.filter.Limit = in.clamped("limit", 50, 1, 200)
	r.filter.Offset = in.clamped("offset", 0, 0, 1<<31-1)
	if s := in.c.QueryParam("status"); s == observe.StatusHeld || slices.Contains(events.Statuses(), events.Status(s)) {
		r.filter.Status = s
	}
}

func (r *jobsRequest) read(in *input) {
	r.page(in)
	switch s := in.c.QueryParam("source_type"); s {
	case observe.SourceEvent, observe.SourceBatch, observe.SourceSummary, observe.SourceReindex:
		r.filter.SourceType = s
	}
	r.filter.Since = date(in.c.QueryParam("since"))
	r.filter.Payload = in.c.QueryParam("include") == "payload"
}

// date reads a time as people and programs write it in a URL. What it cannot
// read is the zero time.
func date(s string) time.Time {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateTime, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t
		}
	}
	if ms, err := strconv.ParseInt(s, 10, 64); err == nil && ms >= 0 && ms <= maxEpoch {
		return time.UnixMilli(ms)
	}
	return time.Time{}
}

func (s *server) listJobs(ctx context.Context, c observe.Caller, r jobsRequest) (jobsBody, error) {
	jobs, total, err := s.cfg.Service.ListJobs(ctx, c, r.filter)
	var why map[events.ID]string
	if err == nil {
		why, err = s.cfg.Service.WhyHeld(ctx, c, jobs...)
	}
	body := jobsBody{
		Jobs: []listedJobBody{}, Total: total, Limit: r.filter.Limit, Offset: r.filter.Offset, RequestID: c.RequestID,
	}
	for _, j := range jobs {
		one := listedJobBody{
			ID: j.ID, ProjectID: j.Scope.Project, TeamID: j.Scope.Team, SourceType: j.SourceType, SourceID: j.SourceID,
			Status: j.Status, Attempts: j.Attempts, MaxAttempts: j.MaxAttempts, CreatedEpoch: epoch(j.CreatedAt),
			CompletedEpoch: epochOrNull(j.CompletedAt), FailedEpoch: epochOrNull(j.FailedAt), LastError: textOrNull(j.LastError),
			Held: asHeld(j, why),
		}
		if r.filter.Payload {
			one.Payload = j.Args
		}
		body.Jobs = append(body.Jobs, one)
	}
	return body, err
}

type teamJobsRequest struct{ jobsRequest }

func (r *teamJobsRequest) read(in *input) {
	r.page(in)
	r.team, r.filter.Mode = in.id("teamId"), "team_jobs"
}

// listTeamJobs answers for the caller's own team: any other is as if it did
// not exist.
func (s *server) listTeamJobs(ctx context.Context, c observe.Caller, r teamJobsRequest) (jobsBody, error) {
	if r.team != c.Team {
		return jobsBody{}, &observe.Problem{Kind: observe.ErrNotFound, Message: "Team not found"}
	}
	body, err := s.listJobs(ctx, c, r.jobsRequest)
	body.RequestID = ""
	return body, err
}

type projectJobsRequest struct{ jobsRequest }

func (r *projectJobsRequest) read(in *input) {
	r.page(in)
	r.filter.Project, r.filter.Mode = in.id("projectId"), "project_jobs"
}

func (s *server) listProjectJobs(ctx context.Context, c observe.Caller, r projectJobsRequest) (jobsBody, error) {
	if r.filter.Project == "" { // an id that no row can have, not a list of all projects
		return jobsBody{}, &observe.Problem{Kind: observe.ErrNotFound, Message: "Project not found"}
	}
	body, err := s.listJobs(ctx, c, r.jobsRequest)
	if errors.Is(err, observe.ErrForbidden) { // one that the caller may not see is as if it did not exist
		return jobsBody{}, &observe.Problem{Kind: observe.ErrNotFound, Message: "Project not found"}
	}
	body.RequestID = ""
	return body, err
}

// happenedBody is one event of a job, as everybody tells it.
type happenedBody struct {
	Version   int           `json:"version"`
	Type      events.Type   `json:"type"`
	Status    events.Status `json:"status"`
	Attempt   int           `json:"attempt"`
	AtEpoch   int64         `json:"atEpoch"`
	At        time.Time     `json:"at"`
	NextEpoch *int64        `json:"nextAttemptAtEpoch"`
	Reason    *string       `json:"reason"`
	Process   *string       `json:"process"`
	RequestID *string       `json:"requestId"`
}

func asHappened(e events.Event) happenedBody {
	return happenedBody{
		Version: e.Version, Type: e.Type, Status: e.Status, Attempt: e.Attempt,
		AtEpoch: epoch(e.At), At: e.At.UTC(), NextEpoch: epochOrNull(e.NextAt),
		Reason: textOrNull(e.Reason), Process: textOrNull(e.Process), RequestID: textOrNull(e.RequestID),
	}
}

// historyBody has also what only the job's history tells.
type historyBody struct {
	happenedBody

	Actor *string `json:"actor"`
	Build *string `json:"build"`
}

type jobHistoryBody struct {
	GenerationJob jobBody       `json:"generationJob"`
	History       []historyBody `json:"history"`
}

func (s *server) getJob(ctx context.Context, c observe.Caller, r named) (jobHistoryBody, error) {
	j, history, err := s.cfg.Service.Job(ctx, c, events.ID(r.id))
	body := jobHistoryBody{asJob(j), []historyBody{}}
	if err == nil {
		var why map[events.ID]string
		why, err = s.cfg.Service.WhyHeld(ctx, c, j)
		body.GenerationJob.Held = asHeld(j, why)
	}
	for _, e := range history {
		body.History = append(body.History, historyBody{asHappened(e), textOrNull(e.Actor), textOrNull(e.Build)})
	}
	return body, err
}

type retriedBody struct {
	GenerationJob jobBody `json:"generationJob"`
	RetriedCount  int     `json:"retriedCount"`
	AlreadyQueued bool    `json:"alreadyQueued"`
	RequestID     string  `json:"requestId"`
}

func (s *server) retryJob(ctx context.Context, c observe.Caller, r named) (retriedBody, error) {
	j, already, err := s.cfg.Service.RetryJob(ctx, c, events.ID(r.id))
	body := retriedBody{GenerationJob: asJob(j), AlreadyQueued: already, RequestID: c.RequestID}
	if !already {
		body.RetriedCount = 1
	}
	return body, err
}

type cancelledBody struct {
	GenerationJob    jobBody `json:"generationJob"`
	AlreadyCancelled bool    `json:"alreadyCancelled"`
	RequestID        string  `json:"requestId"`
}

func (s *server) cancelJob(ctx context.Context, c observe.Caller, r named) (cancelledBody, error) {
	j, already, err := s.cfg.Service.CancelJob(ctx, c, events.ID(r.id))
	return cancelledBody{asJob(j), already, c.RequestID}, err
}
