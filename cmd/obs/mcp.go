package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/seed-245eaa15/obs/api"
	"github.com/seed-245eaa15/obs/cmd/internal/boot"
)

type mcpCommand struct {
	URL     string `var:"OBS_URL" default:"http://${addr}" placeholder:"URL" help:"Where the API is."`
	Key     string `var:"OBS_KEY" placeholder:"KEY" help:"An API key; others on this machine can see what is on a command line."`
	Project string `var:"OBS_PROJECT" placeholder:"ID" help:"The project, for calls that name none."`
}

func (mcpCommand) Help() string {
	return `Serves the tools of /v1/mcp over stdin and stdout, for agents that start their MCP servers themselves. The calls go to
the HTTP API; where that cannot be reached, a call says so and the tools stay.

Examples:

  claude mcp add obs -e OBS_KEY=obs_… -e OBS_PROJECT=prj_… -- obs mcp
  OBS_URL=https://obs.example.org OBS_KEY=obs_… obs mcp`
}

// callLimit is how long a tool may take: longer than the API takes for it.
const callLimit = 45 * time.Second

func (m mcpCommand) Run(ctx context.Context, std boot.Std) error {
	base, err := url.Parse(m.URL)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return boot.Misused("--url (OBS_URL): got %q, want http://host:port", m.URL)
	}
	if m.Key == "" {
		return boot.Misused("--key (OBS_KEY): it is needed")
	}
	door := remoteTools{endpoint: base.JoinPath("/v1/mcp").String(), project: m.Project, client: &http.Client{
		Transport:     keyed{m.Key, http.DefaultTransport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the key is for this host
	}}
	in, ok := std.Stdin.(io.ReadCloser)
	if !ok {
		in = io.NopCloser(std.Stdin)
	}
	lines := newMCPLines(in, std.Stdout)
	err = api.NewMCP(boot.Version(), true, door.call).Run(ctx, &mcp.IOTransport{Reader: lines, Writer: lines, MaxLineLength: -1})
	if err != nil && ctx.Err() == nil {
		return err
	}
	return nil // the agent has gone, or we were told to
}

// remoteTools does the tools by asking the API's own MCP server.
type remoteTools struct {
	endpoint, project string
	client            *http.Client
}

// call has a session of its own, so that a server that was away or has been
// restarted is none of the next call's business. No call is made twice.
func (r remoteTools) call(ctx context.Context, name string, args json.RawMessage) *mcp.CallToolResult {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	res, err := r.forward(ctx, name, args)
	if err == nil {
		return res
	}
	if refused, ok := errors.AsType[*refusedByServer](err); ok {
		return api.ToolError(refused.Error())
	}
	if failed, ok := errors.AsType[*url.Error](err); ok {
		return api.ToolError(fmt.Sprintf("Server error (unreachable): %v", failed))
	}
	return api.ToolError(fmt.Sprintf("Server error (protocol): %v", err))
}

func (r remoteTools) forward(ctx context.Context, name string, args json.RawMessage) (*mcp.CallToolResult, error) {
	session, err := mcp.NewClient(&mcp.Implementation{Name: "obs-mcp", Version: boot.Version()}, nil).Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint: r.endpoint, HTTPClient: r.client, DisableStandaloneSSE: true, MaxRetries: -1,
	}, nil)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	return session.CallTool(ctx, &mcp.CallToolParams{Name: name, Arguments: r.inProject(name, args)})
}

// inProject adds the project of the settings where the tool takes one and the
// call names none.
func (r remoteTools) inProject(name string, args json.RawMessage) json.RawMessage {
	if len(args) == 0 {
		args = json.RawMessage("{}")
	}
	var members map[string]json.RawMessage
	if r.project == "" || !api.ToolTakes(name, "projectId") || json.Unmarshal(args, &members) != nil {
		return args // the server knows what to say
	}
	if members == nil { // null
		members = map[string]json.RawMessage{}
	}
	if given := string(members["projectId"]); given != "" && given != "null" && given != `""` {
		return args
	}
	members["projectId"], _ = json.Marshal(r.project)
	full, err := json.Marshal(members)
	if err != nil {
		return args
	}
	return full
}

// keyed shows the key, and makes an error of an answer that is none of MCP's:
// the problem document that the API has told.
type keyed struct {
	key  string
	next http.RoundTripper
}

func (k keyed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+k.key)
	res, err := k.next.RoundTrip(r)
	if err != nil || !strings.HasPrefix(res.Header.Get("Content-Type"), "application/problem+json") {
		return res, err
	}
	defer res.Body.Close()
	refused := &refusedByServer{status: res.StatusCode}
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(refused); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	return nil, refused
}

// refusedByServer is what the API said instead of doing the call.
type refusedByServer struct {
	status  int
	Kind    string `json:"error"`
	Message string `json:"message"`
}

func (r *refusedByServer) Error() string {
	return fmt.Sprintf("Server error (%s %d): %s", r.Kind, r.status, r.Message)
}
