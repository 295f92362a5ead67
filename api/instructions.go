package api

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/seed-245eaa15/obs/internal/observe"
)

// The topics of GET /api/instructions: how an agent uses what is here. The
// words are ours; the shapes are claude-mem's.
const (
	topicWorkflow = `# How to use the memory

1. Search before you start on something that may have been done before. The tool search (POST /v1/search) takes words or a
   question and gives the observations that answer it, the best first: those that have all words, then those with most.
2. Too many? Put words that belong together in quotes, or narrow it to types, a file or a time. None? Use other words.
3. For a whole task ask context (POST /v1/context) with what you are about to do: the same search, and its text in one
   piece, to read before you begin. Without a query it is what the latest sessions left. recent gives the newest observations.
4. Read metadata before content: it has title, facts, files and concepts. Follow an observation to what it rests on with
   GET /v1/events/:id/observations, and to how it came about with GET /v1/jobs/:id.
5. What you have learnt and nobody could see from the code, write down with observation_add: a decision, a reason, a thing
   to look out for. What you do is recorded by your hooks; you need not repeat it.`

	topicSearch = `# What a search takes

- projectId: the project. May be left out in a tool where the key is for one project.
- query: 1 to 4096 bytes, words or a question. "in quotes" is a phrase, or between words is either, -word is without it,
  begin* is what begins so. Words are stemmed as English: reads, reading and read are one. Names are found as a whole and by
  their parts: getUserById by user, src/api/handle.go by handle.go.
- limit: how many at most. search: 20, from 1 to 100. context: 10, from 1 to 50.
- types: only these kinds, as ["bugfix", "decision"]. file: only what is about it, a folder will do. sessionId.
- sinceEpoch, untilEpoch: only what was made then, in ms since 1970.
- platformSource: only what one agent's sessions left, as claude, codex or cursor.
- cursor: nextCursor of the page before. context takes maxTokens instead: how long its text may be.

The best comes first, and of equals the newest. meant in an answer says which words nobody has used here, and what was
looked for instead.`

	topicExamples = `# Examples

Has anybody been here?           {"query": "relay leader election"}
The exact words                  {"query": "\"lost its lease\""}
One or the other                 {"query": "goose or migration -rollback"}
Only Codex's sessions, a few     {"query": "flaky test", "platformSource": "codex", "limit": 5}
Before a task (context)          {"query": "stream resume Last-Event-ID", "limit": 10}
A note for the team              {"content": "The relay must not be scaled beyond one per database.", "kind": "decision"}

Over HTTP the body also has projectId, and the key goes into the header Authorization: Bearer.`
)

var topics = map[string]string{
	"workflow": topicWorkflow, "search_params": topicSearch, "examples": topicExamples,
	"all": strings.Join([]string{topicWorkflow, topicSearch, topicExamples}, "\n\n"),
}

type instructionsRequest struct{ topic, operation string }

// read takes them as they come: each has an error of its own.
func (r *instructionsRequest) read(in *input) {
	r.topic, r.operation = in.c.QueryParam("topic"), in.c.QueryParam("operation")
}

// instructionsBody is as a tool of MCP answers.
type instructionsBody struct {
	Content []textBody `json:"content"`
}

type textBody struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

var plainOperation = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// instructions tells of one tool, or else of a topic, or of all.
func (s *server) instructions(_ context.Context, _ observe.Caller, r instructionsRequest) (instructionsBody, error) {
	told := func(text string) instructionsBody { return instructionsBody{[]textBody{{"text", text}}} }
	if r.topic == "" {
		r.topic = "all"
	}
	text, known := topics[r.topic]
	switch {
	case !known:
		return instructionsBody{}, called{"Invalid topic", &refusal{http.StatusBadRequest, "Invalid topic: expected one of workflow, search_params, examples, all"}}
	case r.operation == "":
		return told(text), nil
	case !plainOperation.MatchString(r.operation):
		return instructionsBody{}, called{"Invalid operation", &refusal{http.StatusBadRequest, "Invalid operation: expected the name of a tool"}}
	}
	t := toolNamed(r.operation)
	if t == nil {
		return instructionsBody{}, called{"Instruction not found", &refusal{http.StatusNotFound, fmt.Sprintf("Instruction not found: there is no tool %s", r.operation)}}
	}
	return told(t.manual()), nil
}

// manual is the tool for a reader.
func (t *tool) manual() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s\n", t.name, t.about)
	for _, m := range t.takes {
		needed := ""
		if m.needed {
			needed = " (required)"
		}
		fmt.Fprintf(&b, "\n- %s%s: %s", m.name, needed, m.schema.Description)
	}
	return b.String()
}
