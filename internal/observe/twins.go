package observe

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/search"
	"github.com/seed-245eaa15/obs/pipeline"
	"github.com/seed-245eaa15/obs/sqlc"
)

// What is told twice in a session is one observation that rests on both
// events. Nobody looks for the other one: the two have the same id, which is
// made of what they say, or of the tool use that they are about. The second is
// then a conflict that does nothing, in whichever order, transaction and
// worker they come. The offline extractor says the same of the same, word by
// word; a model words it anew, so what the job is about counts, and what comes
// near is looked for.

// observationID names the nth note of a job. twin tells what the job is about
// from everything else in the session; "" is nothing that could come twice.
func (w *writing) observationID(r rendered, session, key, twin string, nth int) string {
	scope := w.job.Scope
	switch {
	case session == "" || r.kind == kindSummaryNote:
		return string(events.NewIDAt("obs", w.job.CreatedAt, scope.Team, scope.Project, key))
	case twin != "":
		return string(events.NewID("obs", scope.Team, scope.Project, session, "tool", twin, fmt.Sprint(nth)))
	}
	return string(events.NewID("obs", scope.Team, scope.Project, session, "says", r.kind, squashed(r.content)))
}

// squashed is a text as it counts when two are compared: without the
// difference of case, white space and most marks.
func squashed(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	space := false
	for _, r := range s {
		switch {
		case unicode.IsSpace(r):
			space = b.Len() > 0
		case strings.ContainsRune("`'\".,;:!?…", r):
		default:
			if space {
				b.WriteByte(' ')
				space = false
			}
			b.WriteRune(unicode.ToLower(r))
		}
	}
	return b.String()
}

// twinOf is what two reports of the same tool use have in common: the id that
// the agent gave it, or else the tool, its input and its output. "" where the
// event is of no session or no tool use.
func twinOf(e sqlc.AgentEvent) string {
	if deref(e.ServerSessionID) == "" {
		return ""
	}
	var use struct {
		ID       string          `json:"tool_use_id"`
		ID2      string          `json:"toolUseId"`
		Tool     string          `json:"tool_name"`
		Input    json.RawMessage `json:"tool_input"`
		Response json.RawMessage `json:"tool_response"`
	}
	if json.Unmarshal(e.Payload, &use) != nil {
		return ""
	}
	if id := use.ID + use.ID2; id != "" {
		return "id " + id
	}
	// Our hook and older clients name the event by the tool use, which says it too.
	if _, id, ok := strings.Cut("/"+deref(e.SourceEventID), "/toolu_"); ok {
		return "id toolu_" + id[strings.LastIndexByte(id, '/')+1:]
	}
	if use.Tool == "" {
		return ""
	}
	input, err := Canonical(orEmpty(use.Input))
	response, err2 := Canonical(orEmpty(use.Response))
	if err != nil || err2 != nil {
		return ""
	}
	return digest(&use.Tool, new(string(input)), new(string(response)))
}

// earlier is a tool use that another job is about, or was.
type earlier struct {
	job, event string
	done       bool
	wait       time.Duration // until it is worth looking again, where it is not done
}

// first says whether another job was first with the tool use that this one is
// about; nil is nobody, and then this one is. It is a statement a job, which is
// little beside an answer that costs money and seconds.
func (s *Service) first(ctx context.Context, job events.Job, session, twin string) (*earlier, error) {
	use := digest(&twin)
	p := sqlc.InsertToolUseParams{
		SessionID: session, ToolUse: use, EventID: job.SourceID, JobID: string(job.ID), TeamID: job.Scope.Team, ProjectID: job.Scope.Project,
	}
	for range txTries {
		made, err := s.q.InsertToolUse(ctx, p)
		if err != nil {
			return nil, fmt.Errorf("note a tool use: %w", err)
		}
		if len(made) > 0 {
			return nil, nil
		}
		rows, err := s.q.FirstToolUse(ctx, sqlc.FirstToolUseParams{
			SessionID: session, ToolUse: use, TeamID: job.Scope.Team, ProjectID: job.Scope.Project,
		})
		if err != nil {
			return nil, fmt.Errorf("read who told of a tool use: %w", err)
		}
		for _, r := range rows {
			t := &earlier{job: r.JobID, event: r.EventID, done: events.Status(r.Status) == events.StatusCompleted}
			// The longer it takes, the less often: a job that waits has two more events each time.
			t.wait = min(time.Duration(job.Version)*time.Second, 30*time.Second)
			return t, nil
		}
	}
	return nil, nil // it comes and goes: then this one asks
}

// sameAs ends an attempt whose tool use another job has told: its event is one
// more source of what that one found, and nobody is asked.
func (s *Service) sameAs(ctx context.Context, w *writing, t *earlier) (pipeline.Commit, error) {
	if !t.done {
		return nil, pipeline.Hold(t.wait, fmt.Errorf("job %s is about the same tool use and not done yet", t.job))
	}
	ids, err := s.q.ObservationIDsOfEvent(ctx, sqlc.ObservationIDsOfEventParams{
		TeamID: w.job.Scope.Team, ProjectID: w.job.Scope.Project, EventID: t.event,
	})
	if err != nil {
		return nil, fmt.Errorf("read what job %s found: %w", t.job, err)
	}
	w.links = ids
	w.outcome["same_tool_use_as"] = t.job
	return w.done()
}

// nearTwins bounds how many of a session's newest notes a new one is compared
// with.
const nearTwins = 40

// mergeAlike gives the notes the ids of those that the session has already and
// that say nearly the same. Only what a model wrote is worth the look. Workers
// that settle notes of one session do it one after the other.
func (w *writing) mergeAlike(ctx context.Context, q *sqlc.Queries) error {
	w.notes = slices.Clone(w.notes)
	var sessions []string
	for _, n := range w.notes {
		if n.session != "" {
			sessions = append(sessions, n.session)
		}
	}
	slices.Sort(sessions)
	for _, session := range slices.Compact(sessions) {
		scope := w.job.Scope
		if err := q.HoldNotesOfSession(ctx, session); err != nil {
			return fmt.Errorf("hold the session's notes: %w", err)
		}
		rows, err := q.NewestNotesOfSession(ctx, sqlc.NewestNotesOfSessionParams{
			SessionID: &session, TeamID: scope.Team, ProjectID: scope.Project, MaxRows: nearTwins,
		})
		if err != nil {
			return fmt.Errorf("read the session's notes: %w", err)
		}
		type known struct {
			id, kind string
			sketch   search.Sketch
		}
		var there []known
		for _, r := range rows {
			there = append(there, known{r.ID, r.Kind, search.NoteOf(r.Content, r.Metadata).Sketch()})
		}
		for i, n := range w.notes {
			if n.session != session {
				continue
			}
			sketch := n.note.Sketch()
			at := slices.IndexFunc(there, func(k known) bool { return k.kind == n.kind && search.SameNote(k.sketch, sketch) })
			if at >= 0 {
				w.notes[i].id = there[at].id
			} else {
				there = append(there, known{n.id, n.kind, sketch})
			}
		}
	}
	return nil
}
