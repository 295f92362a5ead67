package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/seed-245eaa15/obs/internal/observe"
)

// maxQuery is how long a search may be, in bytes.
const maxQuery = 4096

type observationBody struct {
	ID              string          `json:"id"`
	ProjectID       string          `json:"projectId"`
	TeamID          string          `json:"teamId"`
	ServerSessionID *string         `json:"serverSessionId"`
	Kind            string          `json:"kind"`
	Content         string          `json:"content"`
	Metadata        json.RawMessage `json:"metadata"`
	CreatedEpoch    int64           `json:"createdAtEpoch"`
	UpdatedEpoch    int64           `json:"updatedAtEpoch"`
}

func asObservation(o observe.Observation) observationBody {
	return observationBody{
		ID: o.ID, ProjectID: o.ProjectID, TeamID: o.TeamID, ServerSessionID: o.ServerSessionID, Kind: o.Kind,
		Content: o.Content, Metadata: o.Metadata, CreatedEpoch: epoch(o.CreatedAt), UpdatedEpoch: epoch(o.UpdatedAt),
	}
}

// sourcedObservationBody is an observation and what it rests on.
type sourcedObservationBody struct {
	observationBody
	GenerationKey  *string    `json:"generationKey"`
	CreatedByJobID *string    `json:"createdByJobId"`
	Source         sourceBody `json:"source"`
}

type sourceBody struct {
	ID              string  `json:"id"`
	SourceType      string  `json:"sourceType"`
	SourceID        string  `json:"sourceId"`
	GenerationJobID *string `json:"generationJobId"`
	CreatedEpoch    int64   `json:"createdAtEpoch"`
}

func asSourced(o observe.SourcedObservation) sourcedObservationBody {
	return sourcedObservationBody{
		observationBody: asObservation(o.Observation), GenerationKey: o.GenerationKey, CreatedByJobID: o.CreatedByJobID,
		Source: sourceBody{
			ID: o.Source.ID, SourceType: o.Source.SourceType, SourceID: o.Source.SourceID,
			GenerationJobID: o.Source.GenerationJobID, CreatedEpoch: epoch(o.Source.CreatedAt),
		},
	}
}

type searchRequest struct{ query observe.Query }

func (r *searchRequest) read(in *input) {
	o := in.object()
	r.query = query(o, 20, 100)
	r.query.Query = o.text("query", maxQuery)
}

// query is what a search and a context have in common, without the words.
func query(o object, usual, most int64) observe.Query {
	q := observe.Query{
		ProjectID:      o.name("projectId"),
		Limit:          int(o.optionalInteger("limit", usual, 1, most)),
		PlatformSource: o.optionalText("platformSource", maxName),
	}
	filters(o, &q)
	return q
}

// filters reads what narrows a search.
func filters(o object, q *observe.Query) {
	q.Kinds = o.texts("types", maxKinds, maxName)
	for name, into := range map[string]*string{"sessionId": &q.SessionID, "file": &q.Path, "cursor": &q.Cursor} {
		if s := o.optionalText(name, maxFilter); s != nil {
			*into = *s
		}
	}
	for name, into := range map[string]*time.Time{"sinceEpoch": &q.Since, "untilEpoch": &q.Until} {
		if o.has(name) {
			*into = time.UnixMilli(o.integer(name, 0, maxEpoch))
		}
	}
}

const (
	maxKinds  = 20   // in one search
	maxFilter = 1024 // bytes of a path or a cursor
)

type searchBody struct {
	Observations []hitBody           `json:"observations"`
	Next         *string             `json:"nextCursor"`
	Meant        map[string][]string `json:"meant,omitempty"`
	rankingBody
}

// rankingBody says by what was ranked, where vectors are made.
type rankingBody struct {
	RankedBy string `json:"rankedBy,omitempty"`
	Why      string `json:"rankedByReason,omitempty"`
}

// hitBody is an observation with the places that answer the query.
type hitBody struct {
	observationBody
	Highlights []string `json:"highlights"`
}

func (s *server) search(ctx context.Context, c observe.Caller, r searchRequest) (searchBody, error) {
	found, err := s.cfg.Service.Search(ctx, c, r.query)
	body := searchBody{Observations: []hitBody{}, Meant: found.Meant, rankingBody: rankingBody(found.Ranking)}
	for _, h := range found.Hits {
		body.Observations = append(body.Observations, hitBody{asObservation(h.Observation), h.Highlights})
	}
	if found.Next != "" {
		body.Next = &found.Next
	}
	return body, err
}

func asObservations(found []observe.Observation) []observationBody {
	bodies := []observationBody{}
	for _, o := range found {
		bodies = append(bodies, asObservation(o))
	}
	return bodies
}

// contextRequest asks for what an agent should read. Without a query it is
// what the latest sessions left.
type contextRequest struct{ query observe.ContextQuery }

func (r *contextRequest) read(in *input) { r.query = contextQuery(in.object()) }

const maxTokens = 32_000

func contextQuery(o object) observe.ContextQuery {
	asked := o.members.has("query")
	usual := int64(0) // observe's own
	if asked {
		usual = 10
	}
	q := observe.ContextQuery{Query: query(o, usual, 50), MaxTokens: int(o.optionalInteger("maxTokens", 0, 1, maxTokens))}
	if asked {
		q.Query.Query = o.text("query", maxQuery)
	}
	return q
}

// readContext is a contextRequest in the parameters of a GET.
type readContext struct{ contextRequest }

func (r *readContext) read(in *input) {
	p := in.c.QueryParams()
	o := object{in: in, members: fields{}}
	for param, name := range map[string]string{"project": "projectId", "query": "query", "platformSource": "platformSource"} {
		if p.Has(param) {
			text, _ := json.Marshal(p.Get(param)) // a string can be
			o.members.set(name, text)
		}
	}
	for _, name := range []string{"limit", "maxTokens"} {
		if p.Has(name) {
			number := p.Get(name)
			if _, err := strconv.ParseInt(number, 10, 64); err != nil {
				number = `"` + name + `"` // a string, which it says then
			}
			o.members.set(name, json.RawMessage(number))
		}
	}
	r.query = contextQuery(o)
}

type contextBody struct {
	Observations []observationBody `json:"observations"`
	Context      string            `json:"context"`
	Tokens       int               `json:"tokens"`
	Folded       int               `json:"folded"`
	Left         int               `json:"leftOut"`
	rankingBody
}

func (s *server) context(ctx context.Context, c observe.Caller, r contextRequest) (contextBody, error) {
	found, err := s.cfg.Service.Context(ctx, c, r.query)
	return contextBody{asObservations(found.Observations), found.Text, found.Tokens, found.Folded, found.Left, rankingBody(found.Ranking)}, err
}

func (s *server) readContext(ctx context.Context, c observe.Caller, r readContext) (contextBody, error) {
	return s.context(ctx, c, r.contextRequest)
}

type reindexRequest struct{ project, observation string }

func (r *reindexRequest) read(in *input) {
	o := in.object()
	r.project = o.name("projectId")
	if o.has("observationId") {
		r.observation = o.name("observationId")
	}
}

type reindexBody struct {
	GenerationJob briefJobBody `json:"generationJob"`
}

func (reindexBody) status() int { return http.StatusAccepted }

func (s *server) reindex(ctx context.Context, c observe.Caller, r reindexRequest) (reindexBody, error) {
	job, err := s.cfg.Service.Reindex(ctx, c, r.project, r.observation)
	return reindexBody{asBrief(job)}, err
}
