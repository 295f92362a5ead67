package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/seed-245eaa15/obs/internal/observe"
)

// A ToolCall does what a client of an MCP server asked for. args is the
// arguments' JSON, empty when there are none.
type ToolCall func(ctx context.Context, name string, args json.RawMessage) *mcp.CallToolResult

// NewMCP makes an MCP server that shows the tools of this API and has call do
// them. It is the same server over HTTP and, in `obs mcp`, over stdio. Where
// projectKnown, the tools do not demand a project.
func NewMCP(version string, projectKnown bool, call ToolCall) *mcp.Server {
	srv := mcp.NewServer(&mcp.Implementation{Name: "obs", Version: version}, &mcp.ServerOptions{
		Instructions: "Memory of what coding agents have done in this team's projects. Search it before starting on something that may have been done before.",
		Capabilities: &mcp.ServerCapabilities{Tools: &mcp.ToolCapabilities{}}, // the tools do not change
	})
	which := 0
	if projectKnown {
		which = 1
	}
	for _, t := range tools {
		srv.AddTool(t.shown[which], func(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return call(ctx, t.name, r.Params.Arguments), nil
		})
	}
	// Clients of claude-mem are told of an unknown tool as of any other thing
	// that does not work, and not by an error of the protocol.
	srv.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, r mcp.Request) (mcp.Result, error) {
			if c, ok := r.(*mcp.CallToolRequest); ok && toolNamed(c.Params.Name) == nil {
				return ToolError(fmt.Sprintf("Unknown tool: %.100s", c.Params.Name)), nil
			}
			return next(ctx, method, r)
		}
	})
	return srv
}

func toolNamed(name string) *tool {
	i := slices.IndexFunc(tools, func(t tool) bool { return t.name == name })
	if i < 0 {
		return nil
	}
	return &tools[i]
}

// ToolTakes reports whether there is a tool of that name that takes that argument.
func ToolTakes(name, argument string) bool {
	t := toolNamed(name)
	return t != nil && slices.ContainsFunc(t.takes, func(m member) bool { return m.name == argument })
}

// ToolError is the answer to a call that did not work. The model reads it.
func ToolError(message string) *mcp.CallToolResult {
	return &mcp.CallToolResult{IsError: true, Content: []mcp.Content{&mcp.TextContent{Text: message}}}
}

// callTool does a call here, for the caller that keyed found.
func (s *server) callTool(ctx context.Context, c observe.Caller, name string, args json.RawMessage) (result *mcp.CallToolResult) {
	body, err := s.tool(ctx, c, name, args)
	var text bytes.Buffer
	if err == nil {
		enc := json.NewEncoder(&text)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		err = enc.Encode(body)
	}
	if err != nil {
		p := problemOf(err)
		if p.Status < http.StatusInternalServerError || errors.Is(ctx.Err(), context.Canceled) {
			return ToolError(p.Message)
		}
		s.cfg.Log.LogAttrs(ctx, slog.LevelError, "tool", slog.String("tool", name), slog.String("request_id", c.RequestID), slog.Any("err", err))
		return ToolError(fmt.Sprintf("%s (request %s)", p.Message, c.RequestID))
	}
	pretty := bytes.TrimSpace(text.Bytes())
	return &mcp.CallToolResult{
		Content: []mcp.Content{&mcp.TextContent{Text: string(pretty)}}, StructuredContent: json.RawMessage(pretty),
	}
}

// tool reads the arguments and does the tool. It is called outside of the
// request's goroutine, where a panic would end the process.
func (s *server) tool(ctx context.Context, c observe.Caller, name string, args json.RawMessage) (body any, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	if t := typeOf(args); t == "undefined" || t == "null" { // as clients say that there are none
		args = json.RawMessage("{}")
	}
	in := &input{}
	return toolNamed(name).do(s, ctx, c, in.asObject(args, nil))
}

// The codes of JSON-RPC errors that the door itself answers.
const (
	rpcParse      = -32700
	rpcInvalid    = -32600
	rpcAcceptable = -32000 // as the TypeScript SDK has it
)

// mcpCall is what a request to /v1/mcp has besides its message.
type mcpCall struct {
	ctx    context.Context //nolint:containedctx // on its way through the SDK, which has a context of its own
	caller observe.Caller
}

type mcpCallKey struct{}

// newMCP makes the handler behind POST /v1/mcp. It has two servers, which all
// requests share, for making one takes half a millisecond: one for keys of a
// project, one for the others. Who calls comes with the request's context.
func (s *server) newMCP() http.Handler {
	do := func(ctx context.Context, name string, args json.RawMessage) *mcp.CallToolResult {
		call, ok := ctx.Value(mcpCallKey{}).(mcpCall)
		if !ok {
			return ToolError("The call has lost its caller") // and may do nothing
		}
		// The tool has the request's deadline, and the SDK has not: it would
		// end an answer without a word where the tool can still say what is wrong.
		return s.callTool(call.ctx, call.caller, name, args) //nolint:contextcheck // see above
	}
	anyProject, oneProject := NewMCP(s.cfg.Version, false, do), NewMCP(s.cfg.Version, true, do)
	choose := func(r *http.Request) *mcp.Server {
		if call, ok := r.Context().Value(mcpCallKey{}).(mcpCall); ok && call.caller.Project != "" {
			return oneProject
		}
		return anyProject
	}
	return mcp.NewStreamableHTTPHandler(choose, &mcp.StreamableHTTPOptions{
		Stateless: true, MaxRequestBodyBytes: s.cfg.BodyLimit,
		// A page that rebinds a name cannot know a key, and crossOrigin has
		// looked at its origin. A proxy on this machine may keep its own Host.
		DisableLocalhostProtection: true,
	})
}

// postMCP answers one message, or a batch of them where the client's version
// of the protocol has that. There are no sessions.
func (s *server) postMCP(c echo.Context) error {
	if !accepts(c, echo.MIMEApplicationJSON, mimeEvents) {
		return rpcRefusal(c, http.StatusNotAcceptable, rpcAcceptable, "Not Acceptable: Client must accept both application/json and text/event-stream")
	}
	body, err := readBody(c, s.cfg.BodyLimit)
	if err != nil {
		return err
	}
	if bad := wellFormed(body); bad != nil {
		return rpcRefusal(c, http.StatusBadRequest, rpcParse, "Parse error: "+bad.Error())
	}
	caller := visitOf(c).caller
	caller.Via = "mcp"
	r := c.Request().Clone(context.WithValue(visitOf(c).whole, mcpCallKey{}, mcpCall{c.Request().Context(), caller}))
	r.Header.Set(echo.HeaderContentType, echo.MIMEApplicationJSON) // readBody has seen to it
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	s.mcp.ServeHTTP(&rpcWriter{ResponseWriter: c.Response()}, r)
	return nil
}

// idlePing is how often an idle stream says that it is still there.
const idlePing = 25 * time.Second

// getMCP opens the stream on which a server may speak first. This one never
// does, but clients may want to have it.
func (s *server) getMCP(c echo.Context) error {
	if !accepts(c, mimeEvents) {
		return rpcRefusal(c, http.StatusNotAcceptable, rpcAcceptable, "Not Acceptable: Client must accept text/event-stream")
	}
	c.Response().Header().Set(echo.HeaderContentType, mimeEvents)
	if c.Request().Method == http.MethodHead {
		return c.NoContent(http.StatusOK)
	}
	idle(visitOf(c).whole, c.Response())
	return nil
}

// idle keeps a stream open until ctx ends or the client is gone.
func idle(ctx context.Context, w http.ResponseWriter) {
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{}) // the server's are for answers that end; a recorder has none
	tick := time.NewTicker(idlePing)
	defer tick.Stop()
	for {
		_ = rc.SetWriteDeadline(time.Now().Add(idlePing / 2))
		if _, err := io.WriteString(w, ": idle\n\n"); err != nil || rc.Flush() != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

const mimeEvents = "text/event-stream"

// accepts reports whether the client names all of the types.
func accepts(c echo.Context, types ...string) bool {
	var named []string
	for _, line := range c.Request().Header.Values(echo.HeaderAccept) {
		for one := range strings.SplitSeq(line, ",") {
			kind, _, _ := strings.Cut(one, ";")
			named = append(named, strings.ToLower(strings.TrimSpace(kind)))
		}
	}
	return !slices.ContainsFunc(types, func(t string) bool { return !slices.Contains(named, t) })
}

// rpcRefusal answers with an error of JSON-RPC that belongs to no message.
func rpcRefusal(c echo.Context, status, code int, message string) error {
	return write(c, status, echo.MIMEApplicationJSON, rpcError(code, message))
}

func rpcError(code int, message string) any {
	return map[string]any{"jsonrpc": "2.0", "id": nil, "error": map[string]any{"code": code, "message": message}}
}

// rpcWriter makes the plain text with which the SDK refuses a request the
// JSON-RPC error that clients can read, and gives an error of it that names no
// message the id that says so.
type rpcWriter struct {
	http.ResponseWriter
	refused, failed bool
}

func (w *rpcWriter) WriteHeader(status int) {
	h := w.Header()
	kind := h.Get(echo.HeaderContentType)
	w.refused = status >= http.StatusBadRequest && strings.HasPrefix(kind, echo.MIMETextPlain)
	w.failed = status >= http.StatusBadRequest && strings.HasPrefix(kind, echo.MIMEApplicationJSON)
	if w.refused {
		h.Set(echo.HeaderContentType, echo.MIMEApplicationJSON)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *rpcWriter) Write(b []byte) (int, error) {
	body, err := b, error(nil)
	switch {
	case w.refused:
		body, err = json.Marshal(rpcError(rpcInvalid, string(bytes.TrimSpace(b))))
	case w.failed:
		var message map[string]json.RawMessage
		if json.Unmarshal(b, &message) == nil && message["id"] == nil { // the SDK writes a message at once
			message["id"] = json.RawMessage("null")
			body, err = json.Marshal(message)
		}
	}
	if err == nil {
		_, err = w.ResponseWriter.Write(body)
	}
	return len(b), err
}

// Unwrap is for http.ResponseController.
func (w *rpcWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
