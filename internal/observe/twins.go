package observe

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/search"
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
