package observe

import (
	"encoding/json"
	"time"

	"github.com/seed-245eaa15/obs/events"
)

// NewEvent is an agent event as a client reports it.
type NewEvent struct {
	ProjectID        string          // needed
	SourceType       string          // one of hook, worker, provider, server, api
	EventType        string          // free text, needed
	OccurredAtEpoch  int64           // milliseconds, not negative
	Payload          json.RawMessage // any JSON; nil and null become {}
	ServerSessionID  *string         // must be of the same project and team
	ContentSessionID *string         // finds the session when ServerSessionID is nil
	MemorySessionID  *string         // accepted and ignored
	PlatformSource   *string         // normalised, see [NormalizePlatform]
	HasPlatform      bool            // the body has the key platformSource, perhaps as null
	SourceEventID    *string         // the sender's own id of the event: the same id is the same event
	Metadata         json.RawMessage // a JSON object; nil and null become {}
}

// RecordOptions says how events are taken in.
type RecordOptions struct {
	Generate bool // ask for observations
	Batch    bool // the events came as a list: issues name the index first
}

// Recorded is what became of one event of a request.
type Recorded struct {
	Event   AgentEvent
	Job     *events.Job // nil when nothing was to be generated
	Created bool        // false: the event was known before
}

// AgentEvent is a thing that an agent did, as stored. Payload is as the
// client sent it, privacy tags included.
type AgentEvent struct {
	ID              string
	ProjectID       string
	TeamID          string
	ServerSessionID *string
	SourceAdapter   string
	SourceEventID   *string
	EventType       string
	PlatformSource  *string
	Payload         json.RawMessage
	Metadata        json.RawMessage
	BatchJobID      *string // the job that a burst's events share
	OccurredAt      time.Time
	ReceivedAt      time.Time
	CreatedAt       time.Time
}

// NewSession is a session as a client starts it. The ids are at least one
// character or nil.
type NewSession struct {
	ProjectID         string
	ExternalSessionID *string
	ContentSessionID  *string
	AgentID           *string
	AgentType         *string
	PlatformSource    *string
	Metadata          json.RawMessage // a JSON object; its prompt, a string, is kept for the summary
}

// Session is an agent's session as stored.
type Session struct {
	ID                string
	ProjectID         string
	TeamID            string
	ExternalSessionID *string
	ContentSessionID  *string
	AgentID           *string
	AgentType         *string
	PlatformSource    *string
	GenerationStatus  string // "idle", or "completed" once a summary is written
	Metadata          json.RawMessage
	StartedAt         time.Time
	EndedAt           *time.Time
	LastGeneratedAt   *time.Time
	CreatedAt         time.Time
	UpdatedAt         time.Time
}

// Observation is a note that a team can search.
type Observation struct {
	ID              string
	ProjectID       string
	TeamID          string
	ServerSessionID *string
	Kind            string
	Content         string
	Metadata        json.RawMessage
	GenerationKey   *string
	CreatedByJobID  *string
	CreatedAt       time.Time
	UpdatedAt       time.Time
}

// SourcedObservation is an observation with the source that was asked for.
type SourcedObservation struct {
	Observation
	Source Source
}

// Source is what an observation rests on.
type Source struct {
	ID              string
	SourceType      string // agent_event or session_summary
	SourceID        string
	GenerationJobID *string
	CreatedAt       time.Time
}

// JobFilter says which jobs to list. Empty fields filter nothing.
type JobFilter struct {
	Status     string // of events.Statuses, or StatusHeld; an unknown one filters nothing
	SourceType string // an unknown one filters nothing
	Project    string
	Limit      int // 0 means 50; held within 1 and 200
	Offset     int
	Since      time.Time // made at this time or later
	Payload    bool      // with Args; needs the admin scope
	Mode       string    // what the audit log calls it: "" is jobs_list
}

// Query is a search.
type Query struct {
	ProjectID      string
	Query          string // as typed into a web search: words, "phrases", or, -not, begin*
	Limit          int    // 0 means 20 (10 for a context), at most 100 (50)
	Cursor         string // Results.Next of the page before
	PlatformSource *string
	Kinds          []string  // of any of these; none: of all
	SessionID      string    // of this one; "": of all
	Path           string    // about this file, or files of this folder; its last parts will do
	Since, Until   time.Time // made then; zero: whenever
}

// Results is a page of what a search found.
type Results struct {
	Hits  []Hit
	Next  string              // Query.Cursor of the next page; "" at the end
	Meant map[string][]string // words that the project does not have, and which were looked for instead
	Ranking
}

// Ranking says by what a search has ranked.
type Ranking struct {
	RankedBy string // RankedByText or RankedByBoth; "" where nobody makes vectors
	Why      string // it is by text alone, where vectors are made; else ""
}

// What a search ranks by.
const (
	RankedByText = "text"
	RankedByBoth = "text+vectors"
)

// Hit is an observation that was found.
type Hit struct {
	Observation
	Highlights []string // its places that answer best, with ** around what was looked for
}

// NewKey says what key to make. It inherits the caller's team and project.
type NewKey struct {
	Label         string   // at most 120 characters
	ExpiresInDays int      // 1 to 365; 0 means never
	Scopes        []string // none that the caller lacks; empty means memories:read
}

// Key is an API key without its secret.
type Key struct {
	ID         string
	TeamID     string
	ProjectID  string // "" means all of the team's
	ActorID    string
	Label      string
	Prefix     string // the first characters of the secret
	Pepper     string // which one it is hashed with; "" is none
	Scopes     []string
	CreatedAt  time.Time
	ExpiresAt  *time.Time
	RevokedAt  *time.Time
	LastUsedAt *time.Time // exact to a minute
}

// Lane is the state of one kind of job, over all tenants.
type Lane struct {
	Kind      events.Kind
	Waiting   int64         // queued and due
	Delayed   int64         // queued for later
	Active    int64         // held by a worker
	Completed int64         //
	Failed    int64         //
	Oldest    time.Duration // how long the oldest waiting one waits; 0 when none does
}
