//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// asked is what a client asked for and has to hear an answer about: it sends
// the same again until it does.
type asked struct {
	op   string // opSubmit or opMemory
	keys []string
	path string
	body any
	idem string // the Idempotency-Key
}

// load is the clients of all tenants.
type load struct {
	urls    []string
	tenants []tenant
	rec     *record
	seed    uint64
	pace    time.Duration // of one client, between two calls
	http    *http.Client

	shared []*shared // of each tenant
	codes  sync.Map  // what was answered → *atomic.Int64
}

// shared is what the clients of one tenant know together.
type shared struct {
	mu       sync.Mutex
	count    int
	jobs     []string
	sent     []asked // answered, to be sent again for the sake of it
	open     []asked // not answered yet
	sessions []string
}

const (
	clientsEach = 4 // of a tenant
	callLimit   = 4 * time.Second
	waitLimit   = 8 * time.Second
)

func newLoad(urls []string, tenants []tenant, rec *record, seed uint64, rate int) *load {
	l := &load{urls: urls, tenants: tenants, rec: rec, seed: seed, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}}
	l.pace = time.Second * time.Duration(clientsEach*len(tenants)) / time.Duration(rate)
	for range tenants {
		l.shared = append(l.shared, &shared{})
	}
	return l
}

// run calls the APIs until ctx ends.
func (l *load) run(ctx context.Context) {
	var all sync.WaitGroup
	for i := range clientsEach * len(l.tenants) {
		c := &client{load: l, number: i, tenant: i % len(l.tenants), r: rand.New(rand.NewPCG(l.seed, uint64(i)))}
		all.Go(func() { c.run(ctx) })
	}
	all.Wait()
}

type client struct {
	*load
	number, tenant int
	r              *rand.Rand
}

func (c *client) run(ctx context.Context) {
	for next := time.Now(); ; {
		next = next.Add(time.Duration(float64(c.pace) * c.r.ExpFloat64()))
		if late := time.Now().Add(-c.pace); next.Before(late) { // what hung is not made up for in a burst
			next = late
		}
		if !pause(ctx, time.Until(next)) {
			return
		}
		// A call that was begun is finished: its answer counts.
		c.one(context.WithoutCancel(ctx))
	}
}

// one is one call of a kind by chance.
func (c *client) one(ctx context.Context) {
	s := c.shared[c.tenant]
	switch dice := c.r.IntN(100); {
	case dice < 36:
		c.submit(ctx, c.events(1), c.r.IntN(8) == 0)
	case dice < 44:
		c.submit(ctx, c.events(2+c.r.IntN(10)), c.r.IntN(8) == 0)
	case dice < 54: // again what was not answered, else what was
		if a, ok := s.again(c.r); ok {
			c.submit(ctx, a, false)
		}
	case dice < 58:
		c.startSession(ctx)
	case dice < 61:
		if key, ok := s.one(c.r, &s.sessions, 15); ok {
			c.submit(ctx, asked{op: opSubmit, keys: []string{endOf + key}, path: "/v1/sessions/" + key + "/end", body: map[string]any{}}, false)
		}
	case dice < 67:
		c.submit(ctx, c.memory(), false)
	default:
		behind := 15.0
		if dice >= 84 && dice < 91 { // to cancel what is in work it has to be quick
			behind = 2
		}
		job, ok := s.one(c.r, &s.jobs, behind)
		switch {
		case !ok:
		case dice < 84:
			c.read(ctx, job)
		case dice < 91:
			c.operate(ctx, job, opCancel)
		default:
			c.operate(ctx, job, opRetry)
		}
	}
}

// one picks from a list of the tenant's, the newer the likelier: on average
// so many behind the newest.
func (s *shared) one(r *rand.Rand, of *[]string, behind float64) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := *of
	if len(list) == 0 {
		return "", false
	}
	back := min(int(r.ExpFloat64()*behind), len(list)-1)
	return list[len(list)-1-back], true
}

func (s *shared) again(r *rand.Rand) (asked, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.open); n > 0 {
		i := r.IntN(n)
		a := s.open[i]
		s.open = slices.Delete(s.open, i, i+1)
		return a, true
	}
	if n := len(s.sent); n > 0 {
		return s.sent[n-1-min(int(r.ExpFloat64()*15), n-1)], true
	}
	return asked{}, false
}

func (s *shared) number() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	return s.count
}

// events makes new ones: commands that failed, so that something is worth
// noting.
func (c *client) events(n int) asked {
	a := asked{op: opSubmit, path: "/v1/events"}
	var bodies []any
	for range n {
		i := c.shared[c.tenant].number()
		key := fmt.Sprintf("event %d", i)
		a.keys = append(a.keys, key)
		bodies = append(bodies, map[string]any{
			"projectId": c.tenants[c.tenant].project, "sourceType": "hook", "eventType": "tool_use",
			"occurredAtEpoch": 1_795_435_200_000 + i, "sourceEventId": key, "contentSessionId": fmt.Sprintf("session %d", i/20),
			"payload": map[string]any{
				"tool_name":     "Bash",
				"tool_input":    map[string]any{"command": fmt.Sprintf("go test ./part%d", i)},
				"tool_response": map[string]any{"exit_code": 1, "stdout": fmt.Sprintf("--- FAIL: TestPart%d (0.01s)\n    part_test.go:%d: two leaders", i, i+1)},
			},
		})
	}
	a.body = bodies[0]
	if n > 1 {
		a.path, a.body = "/v1/events/batch", bodies
	}
	return a
}

func (c *client) memory() asked {
	key := fmt.Sprintf("memory %d", c.shared[c.tenant].number())
	return asked{op: opMemory, keys: []string{key}, path: "/v1/memories", idem: key, body: map[string]any{
		"projectId": c.tenants[c.tenant].project, "content": "We know " + key + ".",
	}}
}

// answer is what we read of any answer.
type answer struct {
	Event         struct{ ID string }
	GenerationJob *struct{ ID, Status string }
	Events        []struct {
		GenerationJob *struct{ ID, Status string }
	}
	Session          struct{ ID string }
	Memory           struct{ ID string }
	AlreadyQueued    bool
	AlreadyCancelled bool
	Message          string
	History          []struct {
		Version int
		Type    string
		Status  string
		Attempt int
		At      string
		Process string
	}
}

// do sends one request to one of the APIs, and gives its times and answer in
// a call.
func (c *client) do(ctx context.Context, method, path string, body any, idem string, limit time.Duration) (call, answer) {
	made := call{Client: c.number, Tenant: c.tenant, Start: c.rec.now()}
	var got answer
	err := func() error {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(ctx, method, c.urls[c.r.IntN(len(c.urls))]+path, bytes.NewReader(text))
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+c.tenants[c.tenant].key)
		req.Header.Set("Content-Type", "application/json")
		if idem != "" {
			req.Header.Set("Idempotency-Key", idem)
		}
		res, err := c.http.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if text, err = io.ReadAll(res.Body); err != nil { // half an answer is none
			return err
		}
		if err := json.Unmarshal(text, &got); err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		made.Code = res.StatusCode
		return nil
	}()
	made.End = c.rec.now()
	made.Error = got.Message
	said := fmt.Sprint(made.Code)
	if err != nil {
		made.Code, made.Error = 0, err.Error()
		said = "no answer"
	}
	n, _ := c.codes.LoadOrStore(said, &atomic.Int64{})
	n.(*atomic.Int64).Add(1)
	return made, got
}

// submit asks for jobs or a memory, with a new name or one that was used.
func (c *client) submit(ctx context.Context, a asked, wait bool) {
	path, limit := a.path, callLimit
	if wait {
		path, limit = path+"?wait=true", waitLimit
	}
	made, got := c.do(ctx, http.MethodPost, path, a.body, a.idem, limit)
	made.Op, made.ID = a.op, got.Memory.ID
	var jobs []string
	var calls []call
	for i, key := range a.keys {
		one := made
		one.Key = key
		job := got.GenerationJob
		if len(a.keys) > 1 && i < len(got.Events) {
			job = got.Events[i].GenerationJob
		}
		if job != nil {
			one.Job, one.Status = job.ID, job.Status
			jobs = append(jobs, job.ID)
		}
		calls = append(calls, one)
		if wait && job != nil { // it was stored at one time and looked at at another
			calls[len(calls)-1].Status = ""
			one.Op = opStatus
			calls = append(calls, one)
		}
	}
	c.rec.add(calls...)
	s := c.shared[c.tenant]
	s.mu.Lock()
	defer s.mu.Unlock()
	if made.unknown() {
		s.open = append(s.open, a)
		return
	}
	s.sent = append(s.sent, a)
	for _, job := range jobs {
		if !slices.Contains(s.jobs[max(0, len(s.jobs)-100):], job) {
			s.jobs = append(s.jobs, job)
		}
	}
}

func (c *client) startSession(ctx context.Context) {
	name := fmt.Sprintf("session %d", c.shared[c.tenant].number()/20)
	made, got := c.do(ctx, http.MethodPost, "/v1/sessions/start", map[string]any{
		"projectId": c.tenants[c.tenant].project, "contentSessionId": name,
	}, "", callLimit)
	if made.unknown() || got.Session.ID == "" {
		return
	}
	s := c.shared[c.tenant]
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.sessions, got.Session.ID) {
		s.sessions = append(s.sessions, got.Session.ID)
	}
}

func (c *client) read(ctx context.Context, job string) {
	made, got := c.do(ctx, http.MethodGet, "/v1/jobs/"+job, nil, "", callLimit)
	made.Op, made.Job = opRead, job
	if got.GenerationJob != nil {
		made.Status = got.GenerationJob.Status
		lines := make([]string, len(got.History))
		for i, e := range got.History {
			lines[i] = fmt.Sprint(e.Version, e.Type, e.Status, e.Attempt, e.At, e.Process)
		}
		made.Versions = sums(lines)
	}
	c.rec.add(made)
}

func (c *client) operate(ctx context.Context, job, op string) {
	made, got := c.do(ctx, http.MethodPost, "/v1/jobs/"+job+"/"+op, map[string]any{}, "", callLimit)
	made.Op, made.Job = op, job
	made.Already = got.AlreadyQueued || got.AlreadyCancelled
	if got.GenerationJob != nil {
		made.Status = got.GenerationJob.Status
	}
	c.rec.add(made)
}

var errUnanswered = errors.New("not answered though nothing is wrong any more")

// settle sends again whatever was not answered, until it is.
func (l *load) settle(ctx context.Context) error {
	for tenant, s := range l.shared {
		c := &client{load: l, number: clientsEach*len(l.tenants) + tenant, tenant: tenant, r: rand.New(rand.NewPCG(l.seed, 1<<40+uint64(tenant)))}
		for {
			s.mu.Lock()
			n := len(s.open)
			s.mu.Unlock()
			if n == 0 {
				break
			}
			if ctx.Err() != nil {
				return fmt.Errorf("%d requests of tenant %d: %w", n, tenant+1, errUnanswered)
			}
			if a, ok := s.again(c.r); ok {
				c.submit(ctx, a, false)
			}
		}
	}
	return nil
}

// readAll reads every job once more, as its tenant.
func (l *load) readAll(ctx context.Context) {
	var all sync.WaitGroup
	for tenant, s := range l.shared {
		for part := range clientsEach {
			c := &client{load: l, number: clientsEach*(len(l.tenants)*(1+part)) + 100 + tenant, tenant: tenant, r: rand.New(rand.NewPCG(l.seed, 1<<41+uint64(tenant*clientsEach+part)))}
			all.Go(func() {
				for i := part; i < len(s.jobs) && ctx.Err() == nil; i += clientsEach {
					c.read(ctx, s.jobs[i])
				}
			})
		}
	}
	all.Wait()
}
