package observe_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
	"github.com/seed-245eaa15/obs/sqlc"
)

// A query of sqlc/*.sql, of whoever's.
type query struct {
	file, name, sql string
}

// queries reads all of sqlc/*.sql.
func queries(t *testing.T) []query {
	t.Helper()
	files, err := filepath.Glob("../../sqlc/*.sql")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	comment := regexp.MustCompile(`(?m)--.*$`)
	var all []query
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, part := range strings.Split(string(text), "-- name: ")[1:] {
			name, rest, _ := strings.Cut(part, " ")
			_, body, _ := strings.Cut(rest, "\n")
			all = append(all, query{filepath.Base(file), name, comment.ReplaceAllString(body, "")})
		}
	}
	return all
}

var tenantTable = `(?:` + strings.Join(tables, "|") + `)`

var (
	changes = regexp.MustCompile(`(?i)\b(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM)\s+(?:ONLY\s+)?` + tenantTable + `\b`)
	reads   = regexp.MustCompile(`(?i)\b(?:FROM|JOIN|USING)\s+` + tenantTable + `\b`)
	byTeam  = regexp.MustCompile(`\bteam_id\s*=|=\s*(?:\w+\.)?team_id\b`)
	byProj  = regexp.MustCompile(`\bproject_id\s*(?:=|IS NOT DISTINCT)|=\s*(?:\w+\.|@)?project_id\b`)
)

// The queries that work for all tenants, or on what makes a tenant. A file
// stands for all of its queries.
var forAllTenants = map[string]string{
	"outbox.sql":         "the relay deals between tenants and tells of every tenant's events",
	"check.sql":          "obs check reads everything",
	"operator.sql":       "asked by those who have the database, never for a request",
	"KnownJobs":          "tells an unknown job from another tenant's, so that the lie can be recorded",
	"JobsHeldByLost":     "the relay takes back the jobs of lost workers",
	"LaneAsks":           "counts for those who look after the service",
	"LaneJobs":           "counts for those who look after the service",
	"FindKeys":           "who asks is not known before: the key's hash finds the tenant",
	"InsertTeam":         "makes a tenant",
	"HasTeam":            "the team itself",
	"ProjectName":        "the project itself, by its id and team",
	"ProjectByName":      "the project itself, by its team",
	"OwnedProjects":      "the projects themselves, by their team",
	"ProjectsNotInSpace": "a worker looks over all projects for what has no vector",
	"InsertAudits":       "the audit of several requests, each under the tenant that it was let in for",
	"TryProjects":        "the projects themselves, by their teams",
	"HoldProjects":       "the projects themselves, by their teams",
	"ProjectPolicies":    "the projects themselves, by their team",
}

func (q query) exempt() bool { return forAllTenants[q.name] != "" || forAllTenants[q.file] != "" }

// A query that reads tenants' rows says whose.
func TestEveryQueryNamesItsTenant(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, q := range queries(t) {
		known[q.name], known[q.file] = true, true
		if q.exempt() || !reads.MatchString(q.sql) {
			continue
		}
		require.Regexp(t, byTeam, q.sql, q.name)
		require.Regexp(t, byProj, q.sql, q.name)
	}
	for name := range forAllTenants {
		require.True(t, known[name], "%s is exempt and not there", name)
	}
}

// target is what a mutation is aimed at: rows of the home tenant, under a
// scope that is not theirs.
type target struct {
	*home
	scope    events.Scope // the wrong one
	queued   events.Job
	over     string // a session that has a summary
	seskey   string // idempotency key of the session
	evkey    string // and of the event
	observed time.Time
}

// A mutation calls one query with the target's wrong scope.
type mutation struct {
	// makes says that the query inserts rows: under a whole scope of another
	// tenant it may, as long as the home tenant's rows stay as they are.
	makes bool
	call  func(ctx context.Context, q *sqlc.Queries, x target) error
}

// mutations has every query that changes tenants' rows.
var mutations = map[string]mutation{
	"EnqueueJobs": {makes: true, call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		_, err := q.EnqueueJobs(ctx, sqlc.EnqueueJobsParams{
			Ids: []string{string(x.queued.ID)}, TeamIds: []string{x.scope.Team}, ProjectIds: []string{x.scope.Project},
			JobTypes: []string{"event"}, SourceTypes: []string{x.queued.SourceType}, SourceIds: []string{x.queued.SourceID}, Payloads: []string{"{}"},
			RequestIds: []string{""}, Priorities: []int32{0}, MaxAttempts: []int32{3}, DelaysUs: []int64{0},
			Projects: []string{x.scope.Project}, ActorOf: []byte("{}"), ReasonOf: []byte("{}"), Schema: 1,
		})
		return err
	}},
	"EnqueueJob": {makes: true, call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		_, err := q.EnqueueJob(ctx, sqlc.EnqueueJobParams{
			ID: string(x.queued.ID), TeamID: x.scope.Team, ProjectID: x.scope.Project, JobType: "event",
			SourceType: x.queued.SourceType, SourceID: x.queued.SourceID, Payload: "{}", MaxAttempts: 3, Schema: 1,
		})
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	}},
	"ClaimJobs": {call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		_, err := q.ClaimJobs(ctx, sqlc.ClaimJobsParams{
			Ids: []string{string(x.queued.ID)}, TeamIds: []string{x.scope.Team}, ProjectIds: []string{x.scope.Project},
			JobTypes: []string{string(x.queued.Kind)}, Asked: []int32{1}, Worker: "thief", Schema: 1, LockTimeout: "1s",
		})
		return err
	}},
	"CompleteJobs": {call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		_, err := q.CompleteJobs(ctx, sqlc.CompleteJobsParams{
			Ids: []string{string(x.queued.ID)}, TeamIds: []string{x.scope.Team}, ProjectIds: []string{x.scope.Project},
			Versions: []int32{int32(x.queued.Version)}, BeganAts: []time.Time{time.Now()}, Worker: "thief", Schema: 1,
		})
		return err
	}},
	"CompleteJob": {call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		_, err := q.CompleteJob(ctx, sqlc.CompleteJobParams{
			ID: string(x.queued.ID), TeamID: x.scope.Team, ProjectID: x.scope.Project, Version: int32(x.queued.Version), BeganAt: time.Now(), Worker: "thief", Schema: 1,
		})
		return err
	}},
	"MoveJobs": {call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		_, err := q.MoveJobs(ctx, sqlc.MoveJobsParams{
			Ids: []string{string(x.queued.ID)}, TeamIds: []string{x.scope.Team}, ProjectIds: []string{x.scope.Project},
			Versions: []int32{int32(x.queued.Version)}, Types: []string{"cancelled"}, Asks: []bool{false}, Waited: []bool{true}, Statuses: []string{"cancelled"},
			Asked: []int32{1}, Attempts: []int32{0}, LockedBy: []string{""}, LastErrors: []string{""}, DelaysUs: []int64{0},
			Actors: []string{""}, Processes: []string{""}, Builds: []string{""}, RequestIds: []string{""}, Reasons: []string{""},
			Details: []string{""}, Schema: 1,
		})
		return err
	}},
	"InsertProject": {makes: true, call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		_, err := q.InsertProject(ctx, sqlc.InsertProjectParams{ID: x.project, TeamID: x.scope.Team, Name: "taken over"})
		return err
	}},
	"InsertKey": {makes: true, call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		_, err := q.InsertKey(ctx, sqlc.InsertKeyParams{
			ID: x.key, TeamID: x.scope.Team, ProjectID: &x.scope.Project, ActorID: "a", KeyHash: []byte("h"), Scopes: []string{"*"},
		})
		return err
	}},
	"RehashKey": {call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		row, err := q.LockKey(ctx, sqlc.LockKeyParams{ID: x.key, TeamID: x.team})
		if err != nil {
			return err
		}
		return q.RehashKey(ctx, sqlc.RehashKeyParams{
			NewHash: []byte("h"), OldHash: row.KeyHash, ID: x.key, TeamID: x.scope.Team, ProjectID: &x.scope.Project,
		})
	}},
	"RevokeKey": {call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		_, err := q.RevokeKey(ctx, sqlc.RevokeKeyParams{ID: x.key, TeamID: x.scope.Team, ProjectID: x.scope.Project})
		return err
	}},
	"SetProjectSettings": {makes: true, call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		_, err := q.SetProjectSettings(ctx, sqlc.SetProjectSettingsParams{
			ProjectID: x.scope.Project, TeamID: x.scope.Team, Names: []string{"mode"}, Settings: json.RawMessage(`{"policy":"debounce"}`),
		})
		return err
	}},
	"InsertAudit": {makes: true, call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		_, err := q.InsertAudit(ctx, sqlc.InsertAuditParams{
			TeamID: x.scope.Team, ProjectID: &x.scope.Project, ActorID: "a", Action: "x", ResourceType: "x", Details: json.RawMessage("{}"),
		})
		return err
	}},
	"InsertSession": {makes: true, call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		_, err := q.InsertSession(ctx, sqlc.InsertSessionParams{
			ID: x.session, TeamID: x.scope.Team, ProjectID: x.scope.Project, IdempotencyKey: &x.seskey,
			Metadata: json.RawMessage(`{"taken":1}`), Prompts: []string{"taken"},
		})
		return err
	}},
	"RestartSession": {call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		_, err := q.RestartSession(ctx, sqlc.RestartSessionParams{
			Overwrite: true, Metadata: json.RawMessage(`{"taken":1}`), Prompt: "taken",
			TeamID: x.scope.Team, ProjectID: x.scope.Project, IdempotencyKey: &x.seskey,
		})
		return err
	}},
	"EndSession": {call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		_, err := q.EndSession(ctx, sqlc.EndSessionParams{ID: x.session, TeamID: x.scope.Team, ProjectID: x.scope.Project})
		return err
	}},
	"SessionGenerated": {call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		return q.SessionGenerated(ctx, sqlc.SessionGeneratedParams{ID: x.session, TeamID: x.scope.Team, ProjectID: x.scope.Project})
	}},
	"AskedForSummary": {call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		return q.AskedForSummary(ctx, sqlc.AskedForSummaryParams{
			ID: x.session, TeamID: x.scope.Team, ProjectID: x.scope.Project, JobID: new("taken"), Summaries: 1, SummaryOf: new("taken"),
		})
	}},
	"Summarized": {call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		_, err := q.Summarized(ctx, sqlc.SummarizedParams{ID: x.session, TeamID: x.scope.Team, ProjectID: x.scope.Project, Nth: 1})
		return err
	}},
	"DropOldSummaries": {call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		_, err := q.DropOldSummaries(ctx, sqlc.DropOldSummariesParams{
			TeamID: x.scope.Team, ProjectID: x.scope.Project, SessionID: x.over, JobID: "another",
		})
		return err
	}},
	"ReplacedKey": {call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		return q.ReplacedKey(ctx, sqlc.ReplacedKeyParams{ID: x.key, TeamID: x.scope.Team, ProjectID: x.scope.Project, ReplacedBy: new("taken")})
	}},
	"NoteKeys": {call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		return q.NoteKeys(ctx, sqlc.NoteKeysParams{
			Ids: []string{x.key}, TeamIds: []string{x.scope.Team}, ProjectIds: []string{x.scope.Project},
		})
	}},
	"OpenBatches": {call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		return q.OpenBatches(ctx, sqlc.OpenBatchesParams{
			TeamID: x.scope.Team, Ids: []string{x.session}, ProjectIds: []string{x.scope.Project}, JobIds: []string{"taken"},
		})
	}},
	"InsertAgentEvents": {makes: true, call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		_, err := q.InsertAgentEvents(ctx, sqlc.InsertAgentEventsParams{
			Ids: []string{x.event}, TeamIds: []string{x.scope.Team}, ProjectIds: []string{x.scope.Project}, SessionIds: []string{""}, ContentIds: []string{""}, AnyPlatform: []bool{false},
			SourceAdapters: []string{"api"}, SourceEventIds: []string{""}, IdempotencyKeys: []string{x.evkey}, EventTypes: []string{"x"},
			Platforms: []string{""}, Payloads: []string{"{}"}, Metadatas: []string{"{}"}, OccurredAts: []time.Time{time.Now()},
		})
		return err
	}},
	"MergeAgentEvents": {call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		return q.MergeAgentEvents(ctx, sqlc.MergeAgentEventsParams{
			Ids: []string{x.event}, TeamIds: []string{x.scope.Team}, ProjectIds: []string{x.scope.Project}, Metadatas: []string{`{"taken":1}`},
		})
	}},
	"JoinBatch": {call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		_, err := q.JoinBatch(ctx, sqlc.JoinBatchParams{
			TeamID: x.scope.Team, Ids: []string{x.event}, ProjectIds: []string{x.scope.Project}, JobIds: []string{"taken"},
		})
		return err
	}},
	"InsertGenerated": {makes: true, call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		_, err := q.InsertGenerated(ctx, sqlc.InsertGeneratedParams{
			JobIds: []string{"j"}, JobTeamIds: []string{x.scope.Team}, JobProjectIds: []string{x.scope.Project}, ActorIds: []string{"a"},
			ApiKeyIds: []string{""}, Actions: []string{"x"}, RequestIds: []string{""}, Details: []string{"{}"},
			Ids: []string{x.observation}, TeamIds: []string{x.scope.Team}, ProjectIds: []string{x.scope.Project},
			CreatedByJobIds: []string{"j"}, Kinds: []string{"x"}, Contents: []string{"taken"}, Searches: []string{""},
			GenerationKeys: []string{"taken"}, Metadatas: []string{"{}"}, SessionIds: []string{""},
			SourceIds: []string{"s"}, SourceObservations: []string{x.observation}, SourceTypes: []string{"agent_event"},
			SourceNames: []string{x.event}, SourceTeamIds: []string{x.scope.Team}, SourceProjectIds: []string{x.scope.Project}, SourceJobIds: []string{"j"},
			WordTeamIds: []string{x.scope.Team}, WordProjectIds: []string{x.scope.Project}, Lexemes: []string{"taken"}, Words: []string{"taken"},
		})
		return err
	}},
	"InsertWords": {makes: true, call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		return q.InsertWords(ctx, sqlc.InsertWordsParams{
			TeamID: x.scope.Team, ProjectID: x.scope.Project, Lexemes: []string{"taken"}, Words: []string{"taken"},
		})
	}},
	"ClaimToolUses": {call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		_, err := q.ClaimToolUses(ctx, sqlc.ClaimToolUsesParams{
			SessionIds: []string{x.session}, ToolUses: []string{"taken"}, EventIds: []string{x.event},
			JobID: string(x.queued.ID), TeamID: x.scope.Team, ProjectID: x.scope.Project,
		})
		return err
	}},
	"ForgetToolUses": {call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		return q.ForgetToolUses(ctx, sqlc.ForgetToolUsesParams{JobID: string(x.queued.ID), TeamID: x.scope.Team, ProjectID: x.scope.Project})
	}},
	"TellQueued": {call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		return q.TellQueued(ctx, sqlc.TellQueuedParams{Ids: []string{string(x.queued.ID)}, TeamIds: []string{x.scope.Team}, ProjectIds: []string{x.scope.Project}})
	}},
	"PruneJobs": {call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		_, err := q.PruneJobs(ctx, sqlc.PruneJobsParams{
			TeamID: x.scope.Team, ProjectID: x.scope.Project, Before: time.Now().Add(time.Hour), MaxRows: 100, Payloads: true,
			Statuses: []string{"queued", "processing", "completed", "failed", "cancelled"},
		})
		return err
	}},
	"RenderObservations": {call: func(ctx context.Context, q *sqlc.Queries, x target) error {
		_, err := q.RenderObservations(ctx, sqlc.RenderObservationsParams{
			TeamID: x.scope.Team, ProjectID: x.scope.Project, Ids: []string{x.observation}, Contents: []string{"taken"},
			Searches: []string{""}, Metadatas: []string{"{}"}, UpdatedAts: []time.Time{x.observed},
		})
		return err
	}},
}

// Every query that changes tenants' rows, called for rows of one tenant under
// the name of another, changes nothing of theirs. The queries are found in
// the files: one that is added has to be added above.
func TestEveryMutationIsScoped(t *testing.T) {
	t.Parallel()
	found := map[string]bool{}
	for _, q := range queries(t) {
		if q.exempt() || !changes.MatchString(q.sql) {
			continue
		}
		found[q.name] = true
		require.Contains(t, mutations, q.name, "sqlc/%s has a new mutation", q.file)
	}
	for name, m := range mutations {
		require.True(t, found[name], "%s is no mutation any more", name)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newTarget(t)
			right := events.Scope{Team: x.team, Project: x.project}
			team, project := x.tenant(t, "strangers")
			q := sqlc.New(x.pool)
			for _, x.scope = range []events.Scope{
				{Team: x.team, Project: project},
				{Team: team, Project: x.project},
				{Team: x.team, Project: "nope"},
				{Team: "nope", Project: x.project},
				{Team: "nope", Project: "nope"},
			} {
				x.same(t, func() { logged(t, m.call(t.Context(), q, x)) })
			}
			for _, x.scope = range []events.Scope{{Team: team, Project: project}, {Team: x.team, Project: x.second}} {
				before, all := x.ours(t), dump(t, x.pool)
				logged(t, m.call(t.Context(), q, x))
				require.Equal(t, before, x.ours(t))
				if !m.makes {
					require.Equal(t, all, dump(t, x.pool))
				}
			}
			// The aim was good: under its right name the same call does change
			// or make something, unless it only makes what is there already.
			if x.scope = right; !m.makes {
				before := dump(t, x.pool)
				require.NoError(t, m.call(t.Context(), q, x))
				require.NotEqual(t, before, dump(t, x.pool))
			}
		})
	}
}

func logged(t *testing.T, err error) {
	if err != nil {
		t.Log(fmt.Errorf("refused: %w", err))
	}
}

func newTarget(t *testing.T) target {
	h := newHome(t)
	over := h.world.session(t, "over")
	_, summary, err := h.EndSession(t.Context(), h.me, over.ID)
	require.NoError(t, err)
	h.do(t, summary.ID)
	x := target{home: h, queued: h.read(t, h.job), over: over.ID}
	row := func(dest any, sql string, args ...any) {
		require.NoError(t, h.pool.QueryRow(t.Context(), sql, args...).Scan(dest))
	}
	row(&x.seskey, "SELECT idempotency_key FROM server_sessions WHERE id = $1", h.session)
	row(&x.evkey, "SELECT idempotency_key FROM agent_events WHERE id = $1", h.event)
	row(&x.observed, "SELECT updated_at FROM observations WHERE id = $1", h.observation)
	_, err = h.pool.Exec(t.Context(), `INSERT INTO tool_uses (session_id, tool_use, team_id, project_id, job_id, event_id) VALUES ($1, 'one', $2, $3, $4, $5)`,
		h.session, h.team, h.project, h.job, h.event)
	require.NoError(t, err)
	require.Equal(t, events.StatusQueued, x.queued.Status)
	require.Equal(t, observe.KindEvent, x.queued.Kind)
	return x
}
