package api_test

import (
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// member lists of claude-mem's server, 13.15.3, as it was read and run. What
// is here besides or is missing stands in docs/compatibility.md. Since every
// answer of the tests is held against the document, and the document is exact,
// the answers have just these.
var members = []struct {
	operation, at string // the place in the answer
	status        int
	theirs        string
	ours, missing string
}{
	{operation: "alive", status: 200, theirs: "status runtime"},
	{
		operation: "info", status: 200, theirs: "name runtime authMode postgres boundaries queueLanes",
		ours: "version build startedAtEpoch broker",
	},
	{operation: "info", at: "postgres", status: 200, theirs: "initialized schemaVersion"},
	{
		operation: "info", at: "queueLanes.0", status: 200,
		theirs: "kind name waiting active completed failed delayed stalled unavailable unavailableReason",
		ours:   "oldestWaitingMs", missing: "stalled",
	},
	{
		operation: "health", status: 200,
		theirs: "status runtime version workerPath uptime managed hasIpc platform pid initialized mcpReady ai dependencies rateLimits queue",
		ours:   "reasons", missing: "ai queue",
	},
	{operation: "health", at: "dependencies", status: 200, theirs: "degraded statuses"},
	{operation: "readiness", status: 200, theirs: "status mcpReady message"},
	{operation: "version", status: 200, theirs: "version"},
	{operation: "instructions", status: 200, theirs: "content"},
	{operation: "instructions", at: "content.0", status: 200, theirs: "type text"},

	{operation: "recordEvent", status: 201, theirs: "event generationJob waitTimedOut"},
	{operation: "recordEvent", at: "event", status: 201, theirs: event},
	{operation: "recordEvent", at: "generationJob.0", status: 201, theirs: brief},
	{
		operation: "recordEvent", at: "generationJob.1", status: 201,
		theirs: "id status transport bullmqJobId sourceType sourceId attempts maxAttempts createdAtEpoch updatedAtEpoch",
	},
	{operation: "recordEvents", status: 201, theirs: "events waitTimedOut"},
	{operation: "recordEvents", at: "events.0", status: 201, theirs: "event generationJob waitTimedOut"},
	{operation: "getEvent", status: 200, theirs: "event"},
	{operation: "getEvent", at: "event", status: 200, theirs: event},
	{operation: "getEventObservations", status: 200, theirs: "eventId observations"},
	{operation: "getEventObservations", at: "observations.0", status: 200, theirs: observation + " generationKey createdByJobId source"},
	{operation: "getEventObservations", at: "observations.0.source", status: 200, theirs: "id sourceType sourceId generationJobId createdAtEpoch"},

	{operation: "listJobs", status: 200, theirs: "jobs total limit offset requestId"},
	{operation: "listJobs", at: "jobs.0", status: 200, theirs: listed + " payload", ours: "held"},
	{operation: "listTeamJobs", status: 200, theirs: "jobs total limit offset"},
	{operation: "listTeamJobs", at: "jobs.0", status: 200, theirs: listed, ours: "held"},
	{operation: "listProjectJobs", status: 200, theirs: "jobs total limit offset"},
	{operation: "getJob", status: 200, theirs: "generationJob", ours: "history"},
	{operation: "getJob", at: "generationJob", status: 200, theirs: job, ours: "held"},
	{operation: "retryJob", status: 200, theirs: "generationJob retriedCount alreadyQueued requestId"},
	{operation: "retryJob", at: "generationJob", status: 200, theirs: job, ours: "held"},
	{operation: "cancelJob", status: 200, theirs: "generationJob alreadyCancelled requestId"},

	{operation: "startSession", status: 201, theirs: "session"},
	{operation: "startSession", at: "session", status: 201, theirs: session},
	{operation: "startSession", at: "session", status: 200, theirs: session},
	{operation: "getSession", at: "session", status: 200, theirs: session},
	{operation: "endSession", status: 200, theirs: "session generationJob"},
	{operation: "endSession", at: "session", status: 200, theirs: session},
	{operation: "endSession", at: "generationJob", status: 200, theirs: brief},

	{operation: "createMemory", status: 201, theirs: "memory"},
	{operation: "createMemory", at: "memory", status: 201, theirs: observation},
	{operation: "deleteMemory", status: 200, theirs: "deleted id"},
	{operation: "purgeProject", status: 200, theirs: "purged projectId counts"},
	{operation: "purgeProject", at: "counts", status: 200, theirs: "observations agentEvents sessions jobs"},
	{operation: "search", status: 200, theirs: "observations", ours: "nextCursor meant rankedBy rankedByReason"},
	{operation: "search", at: "observations.0", status: 200, theirs: observation, ours: "highlights"},
	{operation: "context", status: 200, theirs: "observations context", ours: "tokens folded leftOut rankedBy rankedByReason"},
	{operation: "context", at: "observations.0", status: 200, theirs: observation},

	{operation: "createKey", status: 201, theirs: "id apiKey scopes expiresAt mcpUrl connectCommand", ours: "label teamId projectId"},
	{operation: "connect", status: 200, theirs: "mcpUrl connectCommand hint"},
	{operation: "usage", status: 200, theirs: "since usage", ours: "by budget"},
	{
		operation: "recordToolUse", status: 200,
		theirs: "status observationCount sessionId serverSessionId eventId generationJobId transport",
	},
	{operation: "summarize", at: "0", status: 200, theirs: "status sessionId serverSessionId generationJobId transport"},
	{operation: "summarize", at: "1", status: 200, theirs: "status reason"},
	{operation: "recordEvent", status: 400, theirs: "error message issues used cap", ours: "type title status detail instance requestId"},
}

const (
	event = "id projectId teamId serverSessionId sourceAdapter sourceEventId eventType platformSource payload metadata " +
		"occurredAtEpoch receivedAtEpoch createdAtEpoch"
	brief = "id status bullmqJobId sourceType sourceId transport createdAtEpoch updatedAtEpoch"
	job   = "id projectId teamId sourceType sourceId agentEventId serverSessionId jobType status bullmqJobId attempts maxAttempts " +
		"nextAttemptAtEpoch completedAtEpoch failedAtEpoch cancelledAtEpoch lastError createdAtEpoch updatedAtEpoch"
	listed = "id projectId teamId sourceType sourceId status attempts maxAttempts createdAtEpoch completedAtEpoch failedAtEpoch lastError"

	session = "id projectId teamId externalSessionId contentSessionId agentId agentType platformSource generationStatus metadata " +
		"startedAtEpoch endedAtEpoch lastGeneratedAtEpoch createdAtEpoch updatedAtEpoch"
	observation = "id projectId teamId serverSessionId kind content metadata createdAtEpoch updatedAtEpoch"
)

func TestMembersAreTheirs(t *testing.T) {
	t.Parallel()
	c := compiled(t)
	text, err := os.ReadFile("../docs/compatibility.md")
	require.NoError(t, err)
	told := func(list string) {
		for name := range strings.FieldsSeq(list) {
			require.Contains(t, string(text), "`"+name+"`", "docs/compatibility.md does not tell of it")
		}
	}
	for _, m := range members {
		what := m.operation + " " + m.at
		told(m.ours)
		told(m.missing)
		want := slices.DeleteFunc(strings.Fields(m.theirs), func(name string) bool { return slices.Contains(strings.Fields(m.missing), name) })
		schema := c.answer(t, m.operation, m.status)
		for name := range strings.FieldsFuncSeq(m.at, func(r rune) bool { return r == '.' }) {
			if i, err := strconv.Atoi(name); err == nil {
				schema = c.element(schema, i)
			} else {
				schema, _ = c.resolved(object(schema["properties"])[name], nil)
			}
			require.NotNil(t, schema, what)
		}
		require.Equal(t, false, schema["additionalProperties"], what)
		require.ElementsMatch(t, append(want, strings.Fields(m.ours)...), slices.Collect(maps.Keys(object(schema["properties"]))), what)
	}
}

// answer is the schema of an operation's JSON answer.
func (c *contract) answer(t *testing.T, id string, status int) map[string]any {
	t.Helper()
	i := slices.IndexFunc(c.operations, func(op *operation) bool { return op.id == id })
	require.GreaterOrEqual(t, i, 0, id)
	item := object(object(c.doc["paths"])[c.operations[i].path])
	op := object(item[strings.ToLower(c.operations[i].method)])
	answer, _ := c.resolved(object(op["responses"])[strconv.Itoa(status)], nil)
	for _, kind := range []string{"application/json", "application/problem+json"} {
		if media := object(object(answer["content"])[kind]); media != nil {
			schema, _ := c.resolved(media["schema"], nil)
			return schema
		}
	}
	require.FailNow(t, "no JSON answer", "%s %d", id, status)
	return nil
}

// element is one of an array's elements, or one of the schemas to choose from.
func (c *contract) element(schema map[string]any, i int) map[string]any {
	if items, ok := schema["items"]; ok {
		one, _ := c.resolved(items, nil)
		return one
	}
	choices, _ := schema["oneOf"].([]any)
	if i >= len(choices) {
		return nil
	}
	one, _ := c.resolved(choices[i], nil)
	return one
}
