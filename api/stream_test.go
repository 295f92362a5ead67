package api_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/api"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/outbox"
)

func init() {
	routeCases["GET /v1/stream"] = func(w *world) []check {
		bad := func(id string) check {
			return check{
				name: "id " + id, request: request{path: "/v1/stream?lastEventId=" + url.QueryEscape(id), key: "team"}, want: 400,
				has: map[string]any{"error": "ValidationError", "issues.0.path.0": "lastEventId"},
			}
		}
		return []check{
			{name: "good", request: request{key: "team"}, want: 200, says: "retry: 2000\n\n"},
			{name: "HEAD", request: request{method: "HEAD", key: "team"}, want: 200},
			{name: "one project", request: request{path: "/v1/stream?project=" + w.sibling, key: "team"}, want: 200},
			{name: "its own project", request: request{path: "/v1/stream?project=" + w.project, key: "project"}, want: 200},
			{name: "an id", request: request{path: "/v1/stream?lastEventId=17-4", key: "team"}, want: 200},
			{name: "an id within a message", request: request{path: "/v1/stream?lastEventId=17-4.3-obs_1", key: "team"}, want: 200},
			{name: "the header goes first", request: request{path: "/v1/stream?lastEventId=x", key: "team", header: map[string]string{"Last-Event-ID": "17-4-obs_1"}}, want: 200},
			bad("x"), bad("1"), bad("1-"), bad("-1"), bad("1-2-"), bad("1-2.0"), bad("1-2.01-a"), bad("1-2.x"), bad("1-2-a.b"), bad("01-2"), bad("1-2\n"), bad("\x00"),
			{name: "NUL", request: request{path: "/v1/stream?project=%00", key: "team"}, want: 400, has: map[string]any{"issues.0.path.0": "project"}},
			{name: "another project", request: request{path: "/v1/stream?project=" + w.sibling, key: "project"}, want: 403},
			{name: "another team's project", request: request{path: "/v1/stream?project=" + w.abroad, key: "team"}, want: 403, has: map[string]any{"error": "Forbidden"}},
			{name: "no such project", request: request{path: "/v1/stream?project=nothing", key: "team"}, want: 403},
		}
	}
}

// TestStream follows a job from its request to its observations, for longer
// than the server lets other requests take.
func TestStream(t *testing.T) {
	t.Parallel()
	l := newLive(t, 2, nil)
	c := l.open("team", "", "")
	require.Equal(t, "text/event-stream", c.res.Header.Get("Content-Type"))
	require.Equal(t, "no-store, no-transform", c.res.Header.Get("Cache-Control"))
	require.Equal(t, "nosniff", c.res.Header.Get("X-Content-Type-Options"))
	require.Empty(t, c.res.Header.Get("Content-Encoding"))
	require.NotEmpty(t, c.res.Header.Get("X-Request-Id"))
	for beats, began := 0, time.Now(); beats < 5 || time.Since(began) < time.Second; {
		w, err := c.word()
		require.NoError(t, err)
		if w.comment {
			beats++
		}
	}

	posted := l.posted("e1")
	job := posted.str("generationJob.id")
	var told []string
	var ids []any
	for _, w := range c.all(1, "completed") {
		if w.name == "observation" {
			told, ids = append(told, "observation"), append(ids, w.data["id"])
			require.Equal(t, job, w.data["createdByJobId"])
			require.Equal(t, l.project, w.data["projectId"])
			require.Contains(t, w.data["content"], "long")
			require.True(t, strings.HasSuffix(w.id, fmt.Sprint("-", w.data["id"])))
			continue
		}
		require.Equal(t, "job", w.name)
		require.Equal(t, job, w.data["jobId"])
		require.Equal(t, l.team, w.data["teamId"])
		require.Equal(t, "event", w.data["jobType"])
		require.Regexp(t, `^\d+-\d+$`, w.id)
		told = append(told, fmt.Sprint(w.data["version"], w.data["type"], w.data["status"]))
	}
	require.Equal(t, []string{"1queuedqueued", "2processingprocessing", "observation", "observation", "3completedcompleted"}, told)
	found := l.do(request{method: "GET", path: "/v1/events/" + posted.str("event.id") + "/observations", key: "team"})
	require.ElementsMatch(t, ids, []any{found.at("observations.0.id"), found.at("observations.1.id")})

	c.close()
	require.Eventually(t, func() bool { return len(l.log.of(`"stream ended"`)) == 1 && len(l.log.of(`"/v1/stream"`)) == 1 }, patience, look)
	line := l.log.of(`"/v1/stream"`)[0]
	require.EqualValues(t, 200, line["status"])
	require.Equal(t, c.res.Header.Get("X-Request-Id"), line["request_id"])
	var audited int
	require.NoError(t, l.pool.QueryRow(t.Context(), `SELECT count(*) FROM audit_log WHERE details->>'mode' = 'stream' AND team_id = $1`, l.team).Scan(&audited))
	require.Equal(t, 1, audited)
}

// TestStreamResumes: whoever is cut off anywhere and comes back with the last
// id is told what one is told who never was. A job leaves more observations
// than are loaded at once.
func TestStreamResumes(t *testing.T) {
	t.Parallel()
	const jobs = 8
	// whole is not read while the others are, which may take long.
	l := newLive(t, 60, func(c *api.Config) { c.Stream.Stall = patience })
	whole := l.open("team", "", "")
	last := whole.lastID
	go func() {
		for i := range jobs {
			l.do(request{method: "POST", path: "/v1/events", key: "team", body: l.event(fmt.Sprint(i))})
		}
	}()
	var got []string
	cuts, done := 0, 0
	for done < jobs {
		query, header := "?lastEventId="+last, ""
		if cuts%2 == 0 {
			query, header = "", last
		}
		c := l.open("team", query, header)
		for range rand.IntN(40) {
			w := c.next()
			got = append(got, w.what())
			last = w.id
			if w.data["type"] == "completed" {
				if done++; done == jobs {
					break
				}
			}
		}
		c.close()
		cuts++
		require.Less(t, cuts, 500, "it gets on")
	}
	require.Greater(t, cuts, 5)
	var want []string
	for _, w := range whole.all(jobs, "completed") {
		want = append(want, w.what())
	}
	require.GreaterOrEqual(t, len(want), jobs*63, "60 observations and 3 events each, and more where a worker is late")
	require.Equal(t, want, got)
}

// TestStreamResumesWithinAMessage: three jobs that were completed by one
// statement are told by one message, and each of its events and observations
// is a place to come back to.
func TestStreamResumesWithinAMessage(t *testing.T) {
	t.Parallel()
	const jobs, notes = 3, 4
	l := newLive(t, notes, nil)
	c := l.open("team", "", "")
	var lines []string
	for i := range jobs {
		lines = append(lines, fmt.Sprintf(`{"job":%q,"version":99,"type":"completed","status":"completed","at":"2026-11-25T22:13:20Z","kind":"event","team":%q,"project":%q}`,
			l.postAs("team", l.project, fmt.Sprint("e", i)), l.team, l.project))
	}
	c.all(jobs, "completed")
	before := c.lastID
	_, err := l.js.Publish(t.Context(), l.streams.EventSubject(events.Scope{Team: l.team, Project: l.project}, "event", events.Completed), []byte(strings.Join(lines, "\n")))
	require.NoError(t, err)
	told := c.all(jobs, "completed")
	require.Len(t, told, jobs*(notes+1))
	for i := -1; i < len(told)-1; i++ {
		from := before
		if i >= 0 {
			from = told[i].id
		}
		require.Equal(t, told[i+1:], l.open("team", "", from).all(jobs-(i+1)/(notes+1), "completed"), "behind %s", from)
	}
	require.Regexp(t, `^\d+-\d+\.1$`, told[notes].id)
	require.Regexp(t, `^\d+-\d+\.1-obs`, told[notes+1].id)
	require.Regexp(t, `^\d+-\d+$`, told[len(told)-1].id)
}

// TestStreamOfOneTenant: two teams and three projects send the same at once,
// and whoever listens is told only what it may read.
func TestStreamOfOneTenant(t *testing.T) {
	t.Parallel()
	l := newLive(t, 1, nil)
	listen := []struct {
		key, query string
		projects   []string
	}{
		{"team", "", []string{l.project, l.sibling}},
		{"project", "", []string{l.project}},
		{"sibling", "", []string{l.sibling}},
		{"team", "?project=" + l.sibling, []string{l.sibling}},
		{"foreign", "", []string{l.abroad}},
	}
	clients := make([]*client, len(listen))
	for i, x := range listen {
		clients[i] = l.open(x.key, x.query, "")
	}
	// One that is not of the system, with a job of the other team on ours.
	forged := fmt.Appendf(nil, `{"job":"event_1","version":1,"type":"completed","kind":"event","team":%q,"project":%q}`, l.foreign, l.abroad)
	_, err := l.js.Publish(t.Context(), l.streams.EventSubject(events.Scope{Team: l.team, Project: l.project}, "event", events.Completed), forged)
	require.NoError(t, err)
	const n = 10
	for i := range n {
		for _, to := range [][2]string{{"team", l.project}, {"sibling", l.sibling}, {"foreign", l.abroad}} {
			l.postAs(to[0], to[1], fmt.Sprint("same", i))
		}
	}
	for i, x := range listen {
		seen := map[any]bool{}
		last, count, observations := map[any]float64{}, map[any]float64{}, 0
		for _, w := range clients[i].all(n*len(x.projects), "completed") {
			if w.name == "observation" {
				observations++
			} else {
				last[w.data["jobId"]], _ = w.data["version"].(float64)
				count[w.data["jobId"]]++
			}
			require.Contains(t, x.projects, w.data["projectId"], "%s %s", x.key, x.query)
			require.Equal(t, map[bool]string{true: l.foreign, false: l.team}[x.key == "foreign"], w.data["teamId"])
			require.False(t, seen[w.what()], w.what())
			seen[w.what()] = true
		}
		require.Equal(t, n*len(x.projects), observations)
		require.Len(t, last, observations, "as many jobs")
		require.Equal(t, last, count, "each version once; there are more than 3 where a worker is late")
	}
}

func TestStreamLimits(t *testing.T) {
	t.Parallel()
	l := newLive(t, 1, func(c *api.Config) { c.Stream.Limit, c.Stream.KeyLimit = 3, 2 })
	refused := func(key, why string) {
		t.Helper()
		a := l.do(request{method: "GET", path: "/v1/stream", key: key})
		require.Equal(t, http.StatusTooManyRequests, a.status, a.text)
		a.problem()
		require.Equal(t, "10", a.header.Get("Retry-After"))
		require.Contains(t, a.str("message"), why)
	}
	one := l.open("team", "", "")
	l.open("team", "", "")
	refused("team", "This key has 2 streams open")
	l.open("foreign", "", "")
	refused("project", "Too many streams")
	one.close()
	require.Eventually(t, func() bool {
		c, err := l.connect("project", "", "", nil)
		return err == nil && c.res.StatusCode == http.StatusOK
	}, patience, look)
}

func TestStreamOfARevokedKey(t *testing.T) {
	t.Parallel()
	l := newLive(t, 1, nil)
	c, other := l.open("project", "", ""), l.open("team", "", "")
	_, err := l.svc.RevokeKey(t.Context(), l.caller("star"), l.keys["project"].ID)
	require.NoError(t, err)
	c.ends()
	again, err := l.connect("project", "", c.lastID, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusForbidden, again.res.StatusCode)
	job := l.postAs("team", l.project, "e1")
	require.Equal(t, job, other.next().data["jobId"], "the others go on")
}

func TestStreamEndsWithTheServer(t *testing.T) {
	t.Parallel()
	l := newLive(t, 1, func(c *api.Config) { c.Stream.Beat = time.Hour })
	c := l.open("team", "", "")
	l.hurry()
	c.ends()
}

// TestStreamMadeAnew: the broker has lost its stream. The client is told, with
// where to look, and then what happens.
func TestStreamMadeAnew(t *testing.T) {
	t.Parallel()
	l := newLive(t, 1, nil)
	c := l.open("team", "", "")
	l.postAs("team", l.project, "e1")
	c.all(1, "completed")
	old := c.lastID
	require.NoError(t, l.js.DeleteStream(t.Context(), l.streams.EventsStream()))
	require.NoError(t, outbox.Ensure(t.Context(), l.js, l.streams))
	for _, c := range []*client{c, l.open("team", "", old)} {
		w := c.next()
		require.Equal(t, "reset", w.name)
		require.Equal(t, "/v1/jobs?since=", w.data["resume"])
		require.NotEqual(t, strings.Split(old, "-")[0], strings.Split(w.id, "-")[0])
	}
	job := l.postAs("team", l.project, "e2")
	w := c.next()
	require.Equal(t, job, w.data["jobId"])
	again := l.open("team", "", w.id).next()
	require.Equal(t, job, again.data["jobId"], "the new ids are good to go on from")
	require.InDelta(t, 2, again.data["version"], 0)
}

// TestStreamFromAnIDThatHasAgedOut: who was away for too long is told that
// something is missing, and who was not goes on.
func TestStreamFromAnIDThatHasAgedOut(t *testing.T) {
	t.Parallel()
	l := newLive(t, 2, nil)
	c := l.open("team", "", "")
	l.postAs("team", l.project, "e1")
	told := c.all(1, "completed")
	c.close()
	stream, err := l.js.Stream(t.Context(), l.streams.EventsStream())
	require.NoError(t, err)
	aged := stream.CachedInfo().Config
	for _, aged.MaxMsgs = range []int64{1, -1} { // all but the last one go
		_, err = l.js.UpdateStream(t.Context(), aged)
		require.NoError(t, err)
	}
	late := l.open("team", "", told[0].id)
	w := late.next()
	require.Equal(t, "reset", w.name)
	require.Equal(t, told[len(told)-1].id, w.id, "the place to go on from is the end")
	half := l.open("team", "", told[len(told)-3].id) // the first of two observations
	later := l.open("team", "", told[len(told)-1].id)
	require.Equal(t, told[len(told)-2].what(), half.next().what(), "the last event is still there, and what it had left to tell")
	require.Equal(t, told[len(told)-1].what(), half.next().what())
	job := l.postAs("team", l.project, "e2")
	for _, c := range []*client{late, half, later} {
		w := c.next()
		require.Equal(t, "job", w.name)
		require.Equal(t, job, w.data["jobId"])
		require.InDelta(t, 1, w.data["version"], 0)
	}
}

// TestStreamWithoutTheBroker: the connection stays, and nothing is left out.
func TestStreamWithoutTheBroker(t *testing.T) {
	t.Parallel()
	l := newLive(t, 1, nil)
	c := l.open("team", "", "")
	l.stopBroker()
	job := l.postAs("team", l.project, "e1")
	for beats := 0; beats < 3; {
		w, err := c.word()
		require.NoError(t, err)
		require.Empty(t, w.name)
		if w.comment {
			beats++
		}
	}
	l.broker()
	version := 0
	for _, w := range c.all(1, "completed") {
		if w.name == "job" {
			version++
			require.Equal(t, job, w.data["jobId"])
			require.InDelta(t, version, w.data["version"], 0)
		}
	}
	require.GreaterOrEqual(t, version, 3)
}

// TestStreamToAClientThatDoesNotRead: it is let go, and costs no memory until then.
func TestStreamToAClientThatDoesNotRead(t *testing.T) {
	t.Parallel()
	l := newLive(t, 60, func(c *api.Config) { c.Stream.Stall = 3 * time.Second }) // who does read may be slow on a busy machine
	lazy, err := l.connect("team", "", "", &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.SetReadBuffer(4 << 10)
			}
			return c, err
		},
	})
	require.NoError(t, err)
	c := l.open("team", "", "")
	for i := range 10 {
		l.postAs("team", l.project, fmt.Sprint(i))
	}
	c.all(10, "completed")
	require.Eventually(t, func() bool { return len(l.log.of("the client does not read")) == 1 }, patience, look)
	lazy.close()
}

func FuzzEventID(f *testing.F) {
	for _, s := range []string{"", "17-4", "17-4-obs_1", "17-4-a-b", "17-0", "17-0-a", "17-4-", "-", "--", "17-4-a.b", "x-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		after, seen, ok := api.ParseEventID(s)
		if !ok {
			return
		}
		if seen != "" {
			require.Equal(t, s, after.String()+"-"+seen)
			return
		}
		require.Equal(t, s, after.String())
	})
}
