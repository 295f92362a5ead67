package api_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/api"
	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/internal/observe"
)

var (
	tenantOps  = flag.Int("tenant-ops", 120, "operations of each tenant in TestTenantsNeverSeeEachOther")
	tenantSeed = flag.Uint64("tenant-seed", 0, "its seed; 0 takes one from the clock")
)

// shared is the word that everybody's texts have, so that a search finds all
// that there is.
const shared = "sharedword"

// registry knows whose each id is.
type registry struct {
	mu  sync.Mutex
	ids map[string][]string // by the tenant's name
}

func (r *registry) add(tenant, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.ids[tenant], id) {
		r.ids[tenant] = append(r.ids[tenant], id)
	}
}

func (r *registry) of(tenant string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ids[tenant])
}

// tenant is a project with the model of what it holds. Only its own goroutine
// writes to the project, so the model is exact at every moment.
type tenant struct {
	*world
	rng           *rand.Rand
	name          string // of its key, and the marker of its texts
	team, project string
	others        []*tenant
	ids           *registry

	n        int
	events   map[string]reported // by the id that the client gave them
	sessions map[string]string   // by external id
	memories map[string]string   // contents by id
	byKey    map[string]string   // ids of memories
	jobs     map[string]bool
}

type reported struct{ id, job, text string }

func (tn *tenant) empty() {
	tn.events, tn.sessions, tn.memories = map[string]reported{}, map[string]string{}, map[string]string{}
	tn.byKey, tn.jobs = map[string]string{}, map[string]bool{}
}

func (tn *tenant) text() string { tn.n++; return fmt.Sprintf("%s %s %d", shared, tn.name, tn.n) }

func (tn *tenant) pick(prefix string, n int) string { return fmt.Sprint(prefix, tn.rng.IntN(n)) }

// ask sends a request, and looks in the answer for whatever is somebody
// else's: their marker, or an id that the request did not name itself.
func (tn *tenant) ask(method, path, body string, header map[string]string) answer {
	tn.t.Helper()
	a := tn.do(request{method: method, path: path, key: tn.name, body: body, header: header})
	tn.looksAt(a.text, path+body)
	require.Less(tn.t, a.status, 500, a.text)
	return a
}

func (tn *tenant) looksAt(text, named string) {
	tn.t.Helper()
	for _, o := range tn.others {
		require.NotContains(tn.t, text, o.name, "%s is told of %s: %s", tn.name, o.name, named)
		for _, id := range tn.ids.of(o.name) {
			if strings.Contains(text, id) && !strings.Contains(named, id) {
				require.Fail(tn.t, "a foreign id", "%s is told of %s of %s: %s\n%s", tn.name, id, o.name, named, text)
			}
		}
	}
}

// own is the id at a path of the answer, which is the tenant's from then on.
func (tn *tenant) own(a answer, path string) string {
	tn.t.Helper()
	id := a.str(path)
	tn.ids.add(tn.name, id)
	return id
}

func (tn *tenant) is(want int, a answer) answer {
	tn.t.Helper()
	require.Equal(tn.t, want, a.status, "%s: %s", tn.name, a.text)
	return a
}

func (tn *tenant) eventBody(id, text string) string {
	body := map[string]any{
		"projectId": tn.project, "sourceType": "hook", "eventType": "tool_use", "occurredAtEpoch": 1700000000000,
		"sourceEventId": id, "payload": map[string]any{"text": text}, "metadata": map[string]any{"from": tn.name},
	}
	if tn.rng.IntN(2) == 0 {
		body["contentSessionId"] = tn.pick("s", 4)
	}
	b, _ := json.Marshal(body)
	return string(b)
}

// heard takes in the answer about an event: a new one, or the one there was.
func (tn *tenant) heard(key, text string, a answer, path string) {
	tn.t.Helper()
	have, known := tn.events[key]
	got := reported{tn.own(a, path+"event.id"), tn.own(a, path+"generationJob.id"), text}
	if known {
		require.Equal(tn.t, have.id, got.id)
		require.Equal(tn.t, have.job, got.job)
		got.text = have.text
	}
	require.Equal(tn.t, got.text, a.at(path+"event.payload.text"), "the first one counts")
	require.Equal(tn.t, tn.project, a.at(path+"event.projectId"))
	if s, ok := a.at(path + "event.serverSessionId").(string); ok {
		require.Contains(tn.t, tn.sessionIDs(), s)
	}
	tn.events[key], tn.jobs[got.job] = got, true
}

func (tn *tenant) sessionIDs() (ids []string) {
	for _, id := range tn.sessions {
		ids = append(ids, id)
	}
	return ids
}

// oneOf is any key of a map, by the tenant's dice.
func oneOf[V any](tn *tenant, m map[string]V) (string, bool) {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return "", false
	}
	slices.Sort(keys)
	return keys[tn.rng.IntN(len(keys))], true
}

// step does one random thing, and compares what comes with the model.
func (tn *tenant) step() {
	tn.t.Helper()
	switch tn.rng.IntN(16) {
	case 0, 1:
		id, text := tn.pick("e", 12), tn.text()
		tn.heard(id, text, tn.is(201, tn.ask("POST", "/v1/events", tn.eventBody(id, text), nil)), "")
	case 2:
		one, two := tn.pick("e", 12), tn.pick("f", 12)
		texts := []string{tn.text(), tn.text()}
		a := tn.is(201, tn.ask("POST", "/v1/events/batch", "["+tn.eventBody(one, texts[0])+","+tn.eventBody(two, texts[1])+"]", nil))
		tn.heard(one, texts[0], a, "events.0.")
		tn.heard(two, texts[1], a, "events.1.")
	case 3:
		tn.startSession(tn.pick("s", 4))
	case 4:
		if s, ok := oneOf(tn, tn.sessions); ok {
			a := tn.is(200, tn.ask("POST", "/v1/sessions/"+tn.sessions[s]+"/end", "", nil))
			tn.jobs[tn.own(a, "generationJob.id")] = true
		}
	case 5:
		tn.older()
	case 6, 7:
		tn.remember()
	case 8:
		tn.changeMemory()
	case 9:
		tn.readOwn()
	case 10:
		tn.search()
	case 11:
		tn.listJobs()
	case 12:
		tn.listRest()
	case 13:
		if job, ok := oneOf(tn, tn.jobs); ok {
			a := tn.ask("POST", "/v1/jobs/"+job+"/"+[]string{"cancel", "retry"}[tn.rng.IntN(2)], "", nil)
			require.Contains(tn.t, []int{200, 409}, a.status, a.text)
		}
	case 14:
		if tn.rng.IntN(6) == 0 {
			a := tn.is(200, tn.ask("DELETE", "/v1/projects/"+tn.project+"/memory", "", nil))
			require.EqualValues(tn.t, len(tn.events), a.at("counts.agentEvents"))
			require.EqualValues(tn.t, len(tn.sessions), a.at("counts.sessions"))
			require.EqualValues(tn.t, len(tn.jobs), a.at("counts.jobs"))
			tn.empty()
			return
		}
		a := tn.ask("POST", "/v1/reindex", fmt.Sprintf(`{"projectId":%q}`, tn.project), nil)
		tn.jobs[tn.own(a, "generationJob.id")] = true
	case 15:
		tn.stranger()
	}
}

func (tn *tenant) startSession(name string) {
	tn.t.Helper()
	body := fmt.Sprintf(`{"projectId":%q,"externalSessionId":%q,"contentSessionId":%q,"platformSource":"claude","metadata":{"prompt":%q}}`,
		tn.project, name, name, tn.text())
	a := tn.ask("POST", "/v1/sessions/start", body, nil)
	if have, known := tn.sessions[name]; known {
		require.Equal(tn.t, have, tn.is(200, a).str("session.id"))
		return
	}
	tn.sessions[name] = tn.own(tn.is(201, a), "session.id")
}

// older uses the routes of older clients.
func (tn *tenant) older() {
	tn.t.Helper()
	name, tool, text := tn.pick("s", 4), tn.pick("tool", 6), tn.text()
	if tn.rng.IntN(3) == 0 {
		a := tn.is(200, tn.ask("POST", "/api/sessions/summarize", fmt.Sprintf(`{"contentSessionId":%q,"last_assistant_message":%q}`, name, text), nil))
		tn.jobs[tn.own(a, "generationJobId")] = true
		tn.knowsSession(name, a)
		return
	}
	a := tn.is(200, tn.ask("POST", "/api/sessions/observations",
		fmt.Sprintf(`{"contentSessionId":%q,"tool_name":"Bash","tool_use_id":%q,"tool_response":%q}`, name, tool, text), nil))
	tn.knowsSession(name, a)
	got := reported{tn.own(a, "eventId"), tn.own(a, "generationJobId"), ""}
	if have, known := tn.events[tool]; known {
		require.Equal(tn.t, have, got)
	}
	tn.events[tool], tn.jobs[got.job] = got, true
}

func (tn *tenant) knowsSession(name string, a answer) {
	tn.t.Helper()
	id := tn.own(a, "serverSessionId")
	if have, known := tn.sessions[name]; known {
		require.Equal(tn.t, have, id)
	}
	tn.sessions[name] = id
}

func (tn *tenant) remember() {
	tn.t.Helper()
	key, header := "", map[string]string{}
	content := tn.text()
	if tn.rng.IntN(2) == 0 {
		key = tn.pick("key", 5)
		header["Idempotency-Key"] = key
		content = shared + " " + tn.name + " " + key // the same key, the same words
	}
	a := tn.ask("POST", "/v1/memories", fmt.Sprintf(`{"projectId":%q,"kind":%q,"content":%q}`, tn.project, tn.pick("kind", 3), content), header)
	if have, known := tn.byKey[key]; known && a.status != 409 { // 409: of another kind
		require.Equal(tn.t, have, tn.is(201, a).str("memory.id"))
		return
	} else if known {
		return
	}
	id := tn.own(tn.is(201, a), "memory.id")
	tn.memories[id] = content
	if key != "" {
		tn.byKey[key] = id
	}
}

func (tn *tenant) changeMemory() {
	tn.t.Helper()
	id, ok := oneOf(tn, tn.memories)
	switch {
	case !ok:
	case tn.rng.IntN(2) == 0:
		text := tn.text()
		tn.is(200, tn.ask("PATCH", "/v1/memories/"+id, fmt.Sprintf(`{"content":%q}`, text), nil))
		tn.memories[id] = text
	default:
		tn.is(200, tn.ask("DELETE", "/v1/memories/"+id, "", nil))
		delete(tn.memories, id)
		for key, of := range tn.byKey {
			if of == id {
				delete(tn.byKey, key)
			}
		}
		tn.is(404, tn.ask("GET", "/v1/memories/"+id, "", nil))
	}
}

func (tn *tenant) readOwn() {
	tn.t.Helper()
	if id, ok := oneOf(tn, tn.memories); ok {
		require.Equal(tn.t, tn.memories[id], tn.is(200, tn.ask("GET", "/v1/memories/"+id, "", nil)).at("memory.content"))
	}
	if s, ok := oneOf(tn, tn.sessions); ok {
		require.Equal(tn.t, s, tn.is(200, tn.ask("GET", "/v1/sessions/"+tn.sessions[s], "", nil)).at("session.externalSessionId"))
	}
	if e, ok := oneOf(tn, tn.events); ok {
		tn.is(200, tn.ask("GET", "/v1/events/"+tn.events[e].id, "", nil))
		tn.is(200, tn.ask("GET", "/v1/events/"+tn.events[e].id+"/observations", "", nil))
	}
	if job, ok := oneOf(tn, tn.jobs); ok {
		require.Equal(tn.t, tn.project, tn.is(200, tn.ask("GET", "/v1/jobs/"+job, "", nil)).at("generationJob.projectId"))
	}
}

// search finds all memories, and of what jobs made only the tenant's own.
func (tn *tenant) search() {
	tn.t.Helper()
	body := fmt.Sprintf(`{"projectId":%q,"query":%q,"limit":50}`, tn.project, shared)
	path := []string{"/v1/search", "/v1/context", "/v1/mcp"}[tn.rng.IntN(3)]
	if path == "/v1/mcp" {
		call := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":%q,"arguments":%s}}`,
			[]string{"search", "context", "recent"}[tn.rng.IntN(3)], body)
		tn.is(200, tn.ask("POST", path, call, map[string]string{"Accept": bothTypes}))
		return
	}
	a := tn.is(200, tn.ask("POST", path, body, nil))
	var found struct {
		Observations []struct {
			ID, ProjectID, Content string
			CreatedByJobID         *string
		}
	}
	require.NoError(tn.t, json.Unmarshal([]byte(a.text), &found))
	seen := map[string]bool{}
	for _, o := range found.Observations {
		require.Equal(tn.t, tn.project, o.ProjectID)
		require.Contains(tn.t, o.Content, tn.name)
		tn.ids.add(tn.name, o.ID)
		seen[o.ID] = true
	}
	for id := range tn.memories {
		require.True(tn.t, seen[id] || len(found.Observations) == 50, "a memory is not found")
	}
}

// listJobs is told of exactly the tenant's jobs, by each of the lists.
func (tn *tenant) listJobs() {
	tn.t.Helper()
	for _, path := range []string{"/v1/jobs", "/v1/teams/" + tn.team + "/jobs", "/v1/projects/" + tn.project + "/jobs"} {
		seen := map[string]bool{}
		for offset := 0; ; offset += 200 {
			a := tn.is(200, tn.ask("GET", fmt.Sprintf("%s?limit=200&offset=%d", path, offset), "", nil))
			require.EqualValues(tn.t, len(tn.jobs), a.at("total"))
			list := a.at("jobs").([]any)
			for _, j := range list {
				seen[j.(map[string]any)["id"].(string)] = true
			}
			if len(list) < 200 {
				break
			}
		}
		require.Equal(tn.t, tn.jobs, seen)
	}
}

func (tn *tenant) listRest() {
	tn.t.Helper()
	a := tn.is(200, tn.ask("GET", "/v1/projects", "", nil))
	require.Equal(tn.t, tn.project, a.at("projects.0.id"))
	require.Equal(tn.t, missing{}, a.at("projects.1"))
	require.Equal(tn.t, tn.team, tn.is(200, tn.ask("GET", "/v1/teams", "", nil)).at("teams.0.id"))
	for _, path := range []string{"/v1/keys", "/v1/usage", "/v1/connect", "/v1/info", "/api/health"} {
		tn.is(200, tn.ask("GET", path, "", nil))
	}
	key := tn.is(201, tn.ask("POST", "/v1/keys", `{"label":"`+tn.name+`"}`, nil))
	tn.own(key, "id")
	var log struct{ Audit []audited }
	require.NoError(tn.t, json.Unmarshal([]byte(tn.is(200, tn.ask("GET", "/v1/audit?limit=500", "", nil)).text), &log))
	require.NotEmpty(tn.t, log.Audit)
	for _, e := range log.Audit {
		require.Equal(tn.t, tn.team, e.TeamID)
		require.Equal(tn.t, tn.project, *e.ProjectID)
	}
}

// unnamed are routes whose body names no tenant: what is sent there is the
// caller's own.
var unnamed = []string{"/v1/keys", "/api/sessions/observations", "/api/sessions/summarize", "/v1/mcp"}

// stranger goes to every route with what is somebody else's, and is refused.
func (tn *tenant) stranger() {
	tn.t.Helper()
	of := tn.others[tn.rng.IntN(len(tn.others))]
	ids := append(tn.ids.of(of.name), of.project)
	if of.team != tn.team {
		ids = append(ids, of.team)
	}
	id := func() string { return ids[tn.rng.IntN(len(ids))] }
	for _, r := range api.Routes(api.Config{Service: tn.svc}) {
		path := strings.NewReplacer(":teamId", id(), ":projectId", id(), ":id", id()).Replace(r.Path)
		if r.Path == "/v1/stream" {
			tn.is(403, tn.ask("GET", path+"?project="+of.project, "", nil))
			continue
		}
		if path == r.Path && (r.Method == http.MethodGet || slices.Contains(unnamed, path)) {
			continue
		}
		body := ""
		if r.Method == http.MethodPost || r.Method == http.MethodPatch {
			body = fmt.Sprintf(`{"projectId":%q,"serverSessionId":%q,"externalSessionId":"s0","contentSessionId":"s0","sourceType":"hook",
				"eventType":"x","occurredAtEpoch":1,"query":%q,"content":"x","name":"x","policy":"per-event"}`, of.project, id(), shared)
			if strings.HasSuffix(path, "/batch") {
				body = "[" + body + "]"
			}
		}
		require.GreaterOrEqual(tn.t, tn.ask(r.Method, path, body, nil).status, 400, "%s %s", r.Method, path)
	}
	// What is the caller's own, with one thing in it that is not.
	for _, s := range []string{of.project, id()} {
		body := fmt.Sprintf(`{"projectId":%q,"serverSessionId":%q,"sourceType":"hook","eventType":"x","occurredAtEpoch":1,"content":"x"}`, tn.project, s)
		tn.is(403, tn.ask("POST", "/v1/events", body, nil))
		tn.is(403, tn.ask("POST", "/v1/memories", body, nil))
	}
}

// Two teams, and two projects of one of them, do random things with the same
// ids at the same time, over the real handler, with a relay and a worker
// behind it. A model of each says what it holds; whatever an answer, or the
// stream, has of another one's is a failure.
func TestTenantsNeverSeeEachOther(t *testing.T) {
	t.Parallel()
	seed := *tenantSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-args -tenant-seed=%d", seed)
	l := newLive(t, 1, nil)
	ids := &registry{ids: map[string][]string{}}
	var tenants []*tenant
	for i, at := range []struct{ name, team, project string }{
		{"zqalpha", l.team, l.project}, {"zqbeta", l.team, l.sibling}, {"zqgamma", l.foreign, l.abroad},
	} {
		l.issue(at.name, at.team, at.project, []string{observe.ScopeAll}, time.Time{})
		tn := &tenant{world: l.world, name: at.name, team: at.team, project: at.project, ids: ids, rng: rand.New(rand.NewPCG(seed, uint64(i)))}
		tn.empty()
		ids.add(at.name, at.project)
		ids.add(at.name, l.keys[at.name].ID)
		tenants = append(tenants, tn)
	}
	for _, tn := range tenants {
		for _, o := range tenants {
			if o != tn {
				tn.others = append(tn.others, o)
			}
		}
	}
	ids.add("zqgamma", l.foreign)

	t.Run("together", func(t *testing.T) {
		for _, tn := range tenants {
			t.Run(tn.name, func(t *testing.T) {
				t.Parallel()
				mine := *l.world
				mine.t, tn.world = t, &mine
				stream := l.open(tn.name, "", "")
				done := make(chan string)
				go func() {
					var all strings.Builder
					for {
						w, err := stream.word()
						if err != nil {
							done <- all.String()
							return
						}
						data, _ := json.Marshal(w.data)
						all.Write(data)
					}
				}()
				for range *tenantOps {
					tn.step()
				}
				stream.close()
				heard := <-done
				require.Contains(t, heard, tn.project, "it was told of its own")
				tn.looksAt(heard, "the stream")
			})
		}
		// Who may see two of them still sees nothing of the third, and of each
		// only what was asked for.
		t.Run("team", func(t *testing.T) {
			t.Parallel()
			mine := *l.world
			mine.t = t
			for range *tenantOps / 4 {
				for i, tn := range tenants[:2] {
					other := tenants[1-i]
					search := mine.do(request{method: "POST", path: "/v1/search", key: "star", body: fmt.Sprintf(`{"projectId":%q,"query":%q}`, tn.project, shared)})
					jobs := mine.do(request{method: "GET", path: "/v1/projects/" + tn.project + "/jobs", key: "star"})
					require.NotContains(t, search.text, other.name)
					require.NotContains(t, jobs.text, other.project)
				}
				for _, path := range []string{"/v1/jobs", "/v1/audit", "/v1/keys", "/v1/projects", "/v1/usage"} {
					a := mine.do(request{method: "GET", path: path, key: "star"})
					require.NotContains(t, a.text, l.foreign)
					require.NotContains(t, a.text, l.abroad)
				}
				for _, path := range []string{"/v1/projects/" + l.abroad, "/v1/projects/" + l.abroad + "/jobs", "/v1/teams/" + l.foreign + "/jobs"} {
					require.Equal(t, http.StatusNotFound, mine.do(request{method: "GET", path: path, key: "star"}).status)
				}
			}
		})
	})
	if t.Failed() {
		return
	}
	for _, tn := range tenants {
		tn.world = l.world
		for table, want := range map[string]int{
			"agent_events": len(tn.events), "server_sessions": len(tn.sessions), "observation_generation_jobs": len(tn.jobs),
			"observations WHERE created_by_job_id IS NULL": len(tn.memories),
		} {
			where := " WHERE "
			if strings.Contains(table, "WHERE") {
				where = " AND "
			}
			var n int
			require.NoError(t, l.pool.QueryRow(t.Context(), "SELECT count(*) FROM "+table+where+"project_id = $1", tn.project).Scan(&n))
			require.Equal(t, want, n, "%s of %s", table, tn.name)
		}
		tn.listJobs()
		tn.search()
	}
	require.Eventually(t, func() bool {
		found, err := l.jobs.Check(t.Context(), db.CheckConfig{Lease: time.Minute})
		return err == nil && len(found) == 0
	}, patience, 10*look, "the invariants hold")
}
