package api

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"

	"github.com/labstack/echo/v4"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/seed-245eaa15/obs/internal/observe"
)

// WellFormed is what the decoder demands of a body before it reads a member.
var (
	WellFormed = wellFormed
	IsJSON     = isJSON
	TooDeep    = tooDeep
)

// Local is which origins may call from a browser.
var Local = local

// ParseEventID reads an id of the stream.
var ParseEventID = parseEventID

// AnyKey is the scope of routes that depend on the row.
const AnyKey = anyKey

// Route is a line of the table.
type Route struct{ Method, Path, Scope string }

// Routes is the table.
func Routes(cfg Config) []Route {
	var out []Route
	for _, r := range (&server{cfg: cfg.withDefaults()}).routes() {
		out = append(out, Route{r.method, r.path, r.scope})
	}
	return out
}

// DecodeEvent and DecodeBatch read a body as the routes do, and say how many
// events are in it.
func DecodeEvent(r *http.Request, w http.ResponseWriter) (int, error) {
	var req eventRequest
	err := decode(echo.New().NewContext(r, w), 1<<20, &req)
	return len(req.events), err
}

// DecodeBatch is like DecodeEvent.
func DecodeBatch(r *http.Request, w http.ResponseWriter) (int, error) {
	var req batchRequest
	err := decode(echo.New().NewContext(r, w), 1<<20, &req)
	return len(req.events), err
}

// StatusOf is the status of the answer to an error.
func StatusOf(err error) int {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	return answerTo(echo.New().NewContext(r, httptest.NewRecorder()), err).Status
}

// Idle is what GET /v1/mcp does.
var Idle = idle

// CallTool calls a tool for the caller and gives the text of the answer.
func CallTool(ctx context.Context, cfg Config, c observe.Caller, name, args string) string {
	s := &server{cfg: cfg.withDefaults()}
	return s.callTool(ctx, c, name, []byte(args)).Content[0].(*mcp.TextContent).Text
}

// GuardMemory shows that many wrong and good keys from as many addresses, and
// says how many are remembered.
func GuardMemory(n int) (addresses, keys int) {
	g := newGuard(1)
	for i := range n {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		p, _ := a.Prefix(32)
		g.note(p, strconv.Itoa(i), false)
		g.note(p, "good"+strconv.Itoa(i), true)
	}
	return len(g.tries), len(g.good)
}

// Written gives the answer about events as the door writes it, alone and in a
// list, and as encoding/json would.
func Written(all []observe.Recorded, waited, timedOut bool) (ours, theirs []string, err error) {
	both := func(v appender) error {
		a, err := encode(v)
		if err != nil {
			return err
		}
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		ours = append(ours, string(a))
		err = enc.Encode(v)
		theirs = append(theirs, b.String())
		return err
	}
	var list recordedBatchBody
	list.WaitTimedOut = timedOut
	for _, one := range all {
		body := recordedBody{Event: asEvent(one.Event), WaitTimedOut: timedOut}
		switch {
		case one.Job != nil && waited:
			body.GenerationJob = asWaited(*one.Job, "enqueued")
		case one.Job != nil:
			body.GenerationJob = asBrief(*one.Job)
		case waited:
			body.GenerationJob = json.RawMessage("null")
		}
		list.Events = append(list.Events, body)
		if err := both(body); err != nil {
			return nil, nil, err
		}
	}
	return ours, theirs, both(list)
}

// TakenApart are the members of an object, or the elements of an array, as
// the door takes them apart, of a text that it has found to be good.
func TakenApart(text []byte) (of map[string]json.RawMessage, list []json.RawMessage, err error) {
	if err := wellFormed(text); err != nil {
		return nil, nil, err
	}
	switch typeOf(text) {
	case "object":
		of = map[string]json.RawMessage{}
		for _, f := range members(text) {
			of[string(f.name)] = f.value
		}
	case "array":
		list = elements(text)
	}
	return of, list, nil
}
