package observe

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/pipeline"
	"github.com/seed-245eaa15/obs/sqlc"
)

// twinOf is what two reports of the same tool use have in common: the id that
// the agent gave it, or else the tool, its input and its output. "" where the
// event is of no session or no tool use. That a tool is about to be used is
// told under the same id, and is not the same.
func twinOf(e sqlc.AgentEvent) string {
	if deref(e.ServerSessionID) == "" {
		return ""
	}
	var use struct {
		ID        string          `json:"tool_use_id"`
		ID2       string          `json:"toolUseId"`
		Tool      string          `json:"tool_name"`
		Input     json.RawMessage `json:"tool_input"`
		Response  json.RawMessage `json:"tool_response"`
		Response2 json.RawMessage `json:"tool_output"`
		Error     json.RawMessage `json:"error"`
	}
	if json.Unmarshal(e.Payload, &use) != nil {
		return ""
	}
	said := slices.ContainsFunc([]json.RawMessage{use.Response, use.Response2, use.Error}, func(m json.RawMessage) bool {
		return len(m) > 0 && string(m) != "null"
	})
	ends := "id "
	if !said {
		ends = "asked id "
	}
	if id := cmp.Or(use.ID, use.ID2); id != "" {
		return ends + id
	}
	// Our hook and older clients name the event by the tool use, which says it too.
	if _, id, ok := strings.Cut("/"+deref(e.SourceEventID), "/toolu_"); ok {
		return ends + "toolu_" + id[strings.LastIndexByte(id, '/')+1:]
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

// namesUse is quick: false is sure.
func namesUse(payload []byte) bool {
	return bytes.Contains(payload, []byte(`"tool_use_id"`)) || bytes.Contains(payload, []byte(`"toolUseId"`))
}

// isNamed reports that a twin is told by the id that the agent gave the use.
func isNamed(twin string) bool {
	return strings.HasPrefix(twin, "id ") || strings.HasPrefix(twin, "asked id ")
}

// toolUse is one of a session's, and the first event of a job that tells of it.
type toolUse struct{ session, twin, event string }

// earlier is a report of a tool use that another job is about, or was.
type earlier struct{ job, event string }

// errNotDone says that a tool use is another job's, which is not done yet.
var errNotDone = errors.New("not done yet")

// toldBefore says, by event, which of the tool uses that a job is about another
// job was first with, and has told. From now on the others are this one's. While
// one is another job's that is not done, this job waits, and none is its own:
// so no two jobs wait for each other.
func (s *Service) toldBefore(ctx context.Context, job events.Job, uses []toolUse) (map[string]earlier, error) {
	if len(uses) == 0 {
		return nil, nil
	}
	var first map[string]earlier
	var waitsFor string
	err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) (err error) {
		p := sqlc.ClaimToolUsesParams{JobID: string(job.ID), TeamID: job.Scope.Team, ProjectID: job.Scope.Project}
		for _, u := range uses {
			p.SessionIds, p.ToolUses, p.EventIds = append(p.SessionIds, u.session), append(p.ToolUses, digest(&u.twin)), append(p.EventIds, u.event)
		}
		mine, err := q.ClaimToolUses(ctx, p)
		if err != nil {
			return fmt.Errorf("note tool uses: %w", err)
		}
		if len(mine) == len(uses) {
			first = nil
			return nil
		}
		first, waitsFor, err = s.othersUses(ctx, q, job, uses)
		if waitsFor != "" {
			return errNotDone
		}
		return err
	})
	if waitsFor == "" {
		return first, err
	}
	if !errors.Is(err, errNotDone) {
		return nil, err
	}
	// What an earlier attempt made its own goes to whoever asks next.
	scope := job.Scope
	if err := s.q.ForgetToolUses(ctx, sqlc.ForgetToolUsesParams{JobID: string(job.ID), TeamID: scope.Team, ProjectID: scope.Project}); err != nil {
		return nil, fmt.Errorf("forget tool uses: %w", err)
	}
	// The longer it takes, the less often: a job that waits has two more events each time.
	wait := min(time.Duration(job.Version)*time.Second, 30*time.Second)
	return nil, pipeline.Hold(wait, fmt.Errorf("job %s is about the same tool use and %w", waitsFor, errNotDone))
}

// othersUses says, by event, which of the tool uses other jobs have told, and
// one of those that have begun to and are not done.
func (s *Service) othersUses(ctx context.Context, q *sqlc.Queries, job events.Job, uses []toolUse) (told map[string]earlier, waitsFor string, err error) {
	if len(uses) == 0 {
		return nil, "", nil
	}
	p := sqlc.ToolUsesOfOthersParams{JobID: string(job.ID), TeamID: job.Scope.Team, ProjectID: job.Scope.Project}
	of := map[[2]string]string{}
	for _, u := range uses {
		use := digest(&u.twin)
		of[[2]string{u.session, use}] = u.event
		p.SessionIds, p.ToolUses = append(p.SessionIds, u.session), append(p.ToolUses, use)
	}
	rows, err := q.ToolUsesOfOthers(ctx, p)
	if err != nil {
		return nil, "", fmt.Errorf("read who told of tool uses: %w", err)
	}
	told = map[string]earlier{}
	for _, r := range rows {
		if events.Status(r.Status) != events.StatusCompleted {
			waitsFor = r.JobID
			continue
		}
		told[of[[2]string{r.SessionID, r.ToolUse}]] = earlier{r.JobID, r.EventID}
	}
	return told, waitsFor, nil
}

// leaveOut takes out what other jobs have told.
func (m *material) leaveOut(told map[string]earlier) {
	m.told = told
	if len(told) == 0 {
		return
	}
	shown := m.shown[:0]
	for _, e := range m.shown {
		if _, there := told[e.ID]; !there {
			shown = append(shown, e)
		}
	}
	m.shown = shown
}

// linkTold makes the events that are not shown, because other jobs have told
// their tool uses, sources of what those found.
func (w *writing) linkTold(ctx context.Context, m material) error {
	if len(m.told) == 0 {
		return nil
	}
	p := sqlc.ObservationIDsOfEventsParams{TeamID: w.job.Scope.Team, ProjectID: w.job.Scope.Project}
	var jobs []string
	for _, first := range m.told {
		p.EventIds, jobs = append(p.EventIds, first.event), append(jobs, first.job)
	}
	rows, err := w.s.q.ObservationIDsOfEvents(ctx, p)
	if err != nil {
		return fmt.Errorf("read what other jobs found: %w", err)
	}
	for id, first := range m.told {
		for _, r := range rows {
			if r.SourceID == first.event {
				for _, event := range m.withTwins([]string{id}) {
					w.links = append(w.links, link{r.ObservationID, restsOn{SourceEvent, event}})
				}
			}
		}
	}
	slices.Sort(jobs)
	w.outcome["same_tool_use_as"] = fewOf(slices.Compact(jobs))
	return nil
}

// why says, for the job's history, which events nobody was asked about.
func (m *material) why() error {
	same := map[string][]string{} // the events by the report that was first
	for id, first := range m.told {
		same[first.event] = append(same[first.event], m.withTwins([]string{id})...)
	}
	for first, more := range m.same {
		if _, told := m.told[first]; !told {
			same[first] = append(same[first], more...)
		}
	}
	if len(same) == 0 {
		return nil
	}
	n := m.toldTwice()
	of := "same tool use as " + fewOf(slices.Sorted(maps.Keys(same)))
	if len(m.shown) == 0 {
		return pipeline.Done(of)
	}
	return pipeline.Done(fmt.Sprintf("%d of %d events: %s", n, n+len(m.shown)+m.private, of))
}

// toldTwice counts the events that are not shown because another one tells the
// same.
func (m *material) toldTwice() int {
	n := len(m.told)
	for _, more := range m.same {
		n += len(more)
	}
	return n
}

// fewOf names some of a list.
func fewOf(names []string) string {
	const few = 5
	if more := len(names) - few; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), more)
	}
	return strings.Join(names, ", ")
}
