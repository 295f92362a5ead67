package api

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/seed-245eaa15/obs/internal/observe"
)

// tool is a line of the table of MCP tools.
type tool struct {
	name  string
	about string   // for the model: when to call it, and what it gives
	takes []member // in the order in which they are shown
	fresh bool     // it writes
	do    func(s *server, ctx context.Context, c observe.Caller, o object) (any, error)
	shown [2]*mcp.Tool // as a client sees it: [1] where the project may be left out
}

// member is one argument of a tool.
type member struct {
	name   string
	needed bool
	schema jsonschema.Schema
}

const projectID = "projectId"

var tools = func() []tool {
	project := member{projectID, true, jsonschema.Schema{
		Type: "string", Description: "Id of the project. May be left out where the key is for one project, or obs mcp was given one.",
	}}
	query := member{"query", true, jsonschema.Schema{
		Type: "string", MinLength: new(1), MaxLength: new(maxQuery),
		Description: `What to look for, in words or as a question; "phrases", or, -not and begin* work as in a web search.`,
	}}
	prompt := query
	prompt.needed = false
	prompt.schema.Description = "The task, in your words. Without it: what the latest sessions left."
	limit := func(usual, most int) member {
		return member{"limit", false, jsonschema.Schema{
			Type: "integer", Minimum: new(1.0), Maximum: new(float64(most)), Default: fmt.Append(nil, usual),
			Description: "How many at most. A number out of bounds is brought within them.",
		}}
	}
	text := func(name, about string) member {
		return member{name, false, jsonschema.Schema{Type: "string", Description: about}}
	}
	platform := text("platformSource", "Only what one agent's sessions left, as claude or cursor.")
	const (
		aboutSearch  = "Search what agents of this team have done and learnt in a project: observations with title, facts and files. The best match comes first."
		aboutContext = "What to read before starting on a task: the observations that fit a prompt, and their text in one piece (context). Without a query: what the latest sessions in the project left, as Markdown."
	)
	strings := func(name, about string) member {
		return member{name, false, jsonschema.Schema{Type: "array", MaxItems: new(maxKinds), Items: &jsonschema.Schema{Type: "string"}, Description: about}}
	}
	narrow := []member{
		strings("types", "Only observations of one of these kinds, as bugfix or decision."),
		text("file", "Only what is about this file, or the files of this folder; its last parts will do."),
		text("sessionId", "Only what this session left."),
		{"sinceEpoch", false, jsonschema.Schema{Type: "integer", Minimum: new(0.0), Description: "Only what was observed then or later, in ms since 1970."}},
		{"untilEpoch", false, jsonschema.Schema{Type: "integer", Minimum: new(0.0), Description: "Only what was observed then or earlier."}},
		text("cursor", "nextCursor of the page before, for the next one."),
	}
	budget := member{"maxTokens", false, jsonschema.Schema{
		Type: "integer", Minimum: new(1.0), Maximum: new(float64(maxTokens)), Description: "How long the text may be, about. Without a query: 2000.",
	}}
	all := []tool{
		{
			name: "search", about: aboutSearch, takes: append([]member{project, query, limit(20, 100)}, narrow...),
			do: doing((*server).search, func(o object) searchRequest { return searchRequest{toolQuery(o, 20, 100)} }),
		},
		{
			name: "context", about: aboutContext, takes: []member{project, prompt, limit(10, 50), budget},
			do: doing((*server).context, toolContext),
		},
		{
			name: "recent", about: "The newest observations of a project, the newest first: what has happened here lately.",
			takes: []member{project, limit(20, 100)},
			do: doing((*server).recent, func(o object) recentRequest {
				return recentRequest{o.name(projectID), int(o.within("limit", 20, 1, 100))}
			}),
		},
		{
			name: "observation_add", fresh: true,
			about: "Store an observation as it is given, for the team to find: a decision, a fact, a thing to look out for.",
			takes: []member{
				{"content", true, jsonschema.Schema{Type: "string", MinLength: new(1), MaxLength: new(maxContent), Description: "The text that is found and read."}},
				project, text("serverSessionId", "Id of the session that it is part of."),
				text("kind", "What sort of note it is, as decision or bugfix; manual if it is left out."),
				{"metadata", false, jsonschema.Schema{Type: "object", Description: "Kept with the observation."}},
			},
			do: doing((*server).createMemory, toolMemory),
		},
		{
			name: "observation_search", about: aboutSearch, takes: append([]member{query, project, platform, limit(20, 100)}, narrow...),
			do: doing((*server).search, func(o object) searchRequest { return searchRequest{toolQuery(o, 20, 100)} }),
		},
		{
			name: "observation_context", about: aboutContext, takes: []member{prompt, project, platform, limit(10, 50), budget},
			do: doing((*server).context, toolContext),
		},
		{
			name: "observation_record_event", fresh: true,
			about: "Record something that happened, for observations to be written from it. Gives the event and the job that writes them: ask observation_generation_status for it.",
			takes: []member{
				{"eventType", true, jsonschema.Schema{Type: "string", MinLength: new(1), MaxLength: new(maxName), Description: "What kind of thing happened, as tool_use or decision."}},
				project,
				{"sourceType", false, jsonschema.Schema{Type: "string", Enum: []any{"hook", "worker", "provider", "server", "api"}, Default: json.RawMessage(`"api"`), Description: "Where the event comes from."}},
				text("serverSessionId", "Id of the session that it is part of."),
				text("contentSessionId", "The agent's own id of that session, in place of serverSessionId."),
				text("memorySessionId", "Taken for claude-mem's clients, and ignored."),
				text("platformSource", "The agent, as claude or cursor."),
				text("sourceEventId", "Your own id of the event: said again with the same id, it is stored once."),
				{"payload", false, jsonschema.Schema{Description: "What happened: any JSON. What is in <private> tags is left out of observations."}},
				{"metadata", false, jsonschema.Schema{Type: "object", Description: "Kept with the event."}},
				{"occurredAtEpoch", false, jsonschema.Schema{Type: "integer", Minimum: new(0.0), Description: "When it happened, in ms since 1970. Now if it is left out."}},
				{"generate", false, jsonschema.Schema{Type: "boolean", Default: json.RawMessage("true"), Description: "Whether to write observations from it."}},
			},
			do: doing((*server).postEvent, toolEvent),
		},
		{
			name: "observation_generation_status", about: "What has become of a job that writes observations: its status, and its history.",
			takes: []member{{"jobId", true, jsonschema.Schema{Type: "string", Description: "Id of the job (generationJob.id)."}}},
			do:    doing((*server).getJob, func(o object) named { return named{o.name("jobId")} }),
		},
	}
	for i := range all {
		all[i].shown = [2]*mcp.Tool{all[i].show(false), all[i].show(true)}
	}
	return all
}()

// show is the tool as a client sees it.
func (t tool) show(projectKnown bool) *mcp.Tool {
	input := &jsonschema.Schema{Type: "object", Properties: map[string]*jsonschema.Schema{}}
	for _, m := range t.takes {
		input.Properties[m.name] = &m.schema
		input.PropertyOrder = append(input.PropertyOrder, m.name)
		if m.needed && !(m.name == projectID && projectKnown) {
			input.Required = append(input.Required, m.name)
		}
	}
	hints := &mcp.ToolAnnotations{ReadOnlyHint: !t.fresh, OpenWorldHint: new(false)}
	if t.fresh {
		hints.DestructiveHint = new(false)
	} else {
		hints.IdempotentHint = true
	}
	return &mcp.Tool{Name: t.name, Description: t.about, InputSchema: input, Annotations: hints}
}

// doing makes a tool of what a route does: the same checks, the same answer.
func doing[Req, Resp any](do func(*server, context.Context, observe.Caller, Req) (Resp, error), read func(object) Req) func(*server, context.Context, observe.Caller, object) (any, error) {
	return func(s *server, ctx context.Context, c observe.Caller, o object) (any, error) {
		if c.Project != "" && !o.has(projectID) && o.members != nil {
			project, _ := json.Marshal(c.Project) // a string can be
			o.members.set(projectID, project)
		}
		req := read(o)
		if err := o.in.failure(); err != nil {
			return nil, err
		}
		return do(s, ctx, c, req)
	}
}

func toolQuery(o object, usual, most int64) observe.Query {
	q := observe.Query{
		ProjectID: o.name(projectID), Query: o.visible("query", maxQuery), Limit: int(o.within("limit", usual, 1, most)),
		PlatformSource: o.optionalText("platformSource", maxName),
	}
	filters(o, &q)
	return q
}

// toolContext is a search where there is a query, and otherwise the latest.
func toolContext(o object) contextRequest {
	q := observe.ContextQuery{MaxTokens: int(o.within("maxTokens", 0, 0, maxTokens))}
	if o.has("query") {
		q.Query = toolQuery(o, 10, 50)
	} else {
		q.Query = observe.Query{
			ProjectID: o.name(projectID), Limit: int(o.within("limit", 0, 0, 50)), PlatformSource: o.optionalText("platformSource", maxName),
		}
	}
	return contextRequest{q}
}

// toolEvent is an event of which the tool fills in what a model cannot know.
func toolEvent(o object) eventRequest {
	generate := o.yes("generate", true)
	if o.members != nil {
		if !o.has("sourceType") {
			o.members.set("sourceType", json.RawMessage(`"api"`))
		}
		if !o.has("occurredAtEpoch") {
			o.members.set("occurredAtEpoch", fmt.Append(nil, time.Now().UnixMilli()))
		}
	}
	return eventRequest{recordRequest{events: []observe.NewEvent{newEvent(o)}, generate: generate}}
}

func toolMemory(o object) memoryRequest {
	m := observe.NewMemory{
		ProjectID: o.name(projectID), ServerSessionID: o.optionalName("serverSessionId"),
		Content: o.visible("content", maxContent), Metadata: o.record("metadata"),
	}
	if kind := o.optionalName("kind"); kind != nil {
		m.Kind = *kind
	}
	return memoryRequest{m}
}

type recentRequest struct {
	project string
	limit   int
}

type recentBody struct {
	Observations []observationBody `json:"observations"`
}

func (s *server) recent(ctx context.Context, c observe.Caller, r recentRequest) (recentBody, error) {
	found, err := s.cfg.Service.Recent(ctx, c, r.project, r.limit)
	return recentBody{asObservations(found)}, err
}
