package main

import (
	"fmt"
	"time"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
)

// jobBody has the names that the API has.
type jobBody struct {
	ID             string `json:"id"`
	Kind           string `json:"jobType"`
	TeamID         string `json:"teamId"`
	ProjectID      string `json:"projectId"`
	SourceType     string `json:"sourceType"`
	SourceID       string `json:"sourceId"`
	Status         string `json:"status"`
	Version        int    `json:"version"`
	Attempts       int    `json:"attempts"`
	MaxAttempts    int    `json:"maxAttempts"`
	LockedBy       string `json:"lockedBy,omitempty"`
	LastError      string `json:"lastError,omitempty"`
	Held           string `json:"held,omitempty"` // why it is put off
	RequestID      string `json:"requestId,omitempty"`
	NextEpoch      *int64 `json:"nextAttemptAtEpoch"`
	CreatedEpoch   *int64 `json:"createdAtEpoch"`
	UpdatedEpoch   *int64 `json:"updatedAtEpoch"`
	CompletedEpoch *int64 `json:"completedAtEpoch"`
	FailedEpoch    *int64 `json:"failedAtEpoch"`
	CancelledEpoch *int64 `json:"cancelledAtEpoch"`
}

func bodyOfJob(j events.Job) jobBody {
	return jobBody{
		ID: string(j.ID), Kind: observe.JobType(j.Kind), TeamID: j.Scope.Team, ProjectID: j.Scope.Project,
		SourceType: j.SourceType, SourceID: j.SourceID, Status: string(j.Status), Version: j.Version,
		Attempts: j.Attempts, MaxAttempts: j.MaxAttempts, LockedBy: j.LockedBy, LastError: j.LastError, RequestID: j.RequestID,
		NextEpoch: epoch(j.NextAt), CreatedEpoch: epoch(j.CreatedAt), UpdatedEpoch: epoch(j.UpdatedAt),
		CompletedEpoch: epoch(j.CompletedAt), FailedEpoch: epoch(j.FailedAt), CancelledEpoch: epoch(j.CancelledAt),
	}
}

type eventBody struct {
	Version   int    `json:"version"`
	Type      string `json:"type"`
	Status    string `json:"status"`
	Attempt   int    `json:"attempt"`
	At        string `json:"at"`
	AfterMS   int64  `json:"afterMs"` // since the event before; 0 for the first
	NextEpoch *int64 `json:"nextAttemptAtEpoch"`
	Actor     string `json:"actor,omitempty"`
	Process   string `json:"process,omitempty"`
	Build     string `json:"build,omitempty"`
	RequestID string `json:"requestId,omitempty"`
	Reason    string `json:"reason,omitempty"`
}

func bodyOfEvent(e events.Event) eventBody {
	return eventBody{
		Version: e.Version, Type: string(e.Type), Status: string(e.Status), Attempt: e.Attempt,
		At: e.At.UTC().Format(time.RFC3339Nano), NextEpoch: epoch(e.NextAt), Actor: e.Actor, Process: e.Process,
		Build: e.Build, RequestID: e.RequestID, Reason: e.Reason,
	}
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	when := ago(t) + " ago"
	if left := time.Until(t); left > 0 {
		when = "in " + ago(time.Now().Add(-left))
	}
	return t.UTC().Format("2006-01-02 15:04:05.000 UTC") + " (" + when + ")"
}

// short is a duration in at most six characters or so.
func short(d time.Duration) string {
	switch {
	case d <= 0:
		return "0s"
	case d < time.Millisecond:
		return fmt.Sprintf("%dµs", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}
