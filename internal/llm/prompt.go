package llm

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxPayload = 16 << 10 // bytes of one text in a prompt
	truncated  = "[...truncated]"
	// promptForm is the version of what this file puts around a mode's texts.
	promptForm = "1"
)

// Prompt is a question in the words in which a model is asked it.
type Prompt struct {
	Version string         // of the words, see [Mode.Version]
	System  string         // who is asked, and what for: the same for every question of a mode and task
	User    string         // what the agent did, and the form of the answer
	Schema  map[string]any // the JSON schema of the answer; nil: the form is in User
	LeftOut int            // events that there was no room for
}

// Prompt puts the question into words: for a model that answers by a JSON
// schema, or, if not structured, in the grammar that the words explain.
func (q Question) Prompt(structured bool) Prompt {
	m := q.mode()
	task, tokens := m.Texts.Observe, m.Tokens.Observe
	if q.Task == TaskSummarize {
		task, tokens = m.Texts.Summary, m.Tokens.Summary
	}
	fill := strings.NewReplacer("{types}", terms(m.Types), "{concepts}", terms(m.Concepts))
	p := Prompt{Version: m.Version(), System: strings.TrimSpace(m.Texts.System) + "\n\n" + strings.TrimSpace(fill.Replace(task)) + "\n"}
	form := jsonForm
	if structured {
		if p.Schema = q.schema(); q.Task != TaskSummarize {
			form += ` "events" has the ids of the agent_events that a note rests on.`
		}
	} else {
		form = q.grammar()
	}
	var b strings.Builder
	b.WriteString("<session project=" + attr(q.Project) + " id=" + attr(q.Session) + ">\n")
	shown := q.choose(tokens * bytesPerToken)
	for _, n := range shown.notes {
		b.WriteString(n)
	}
	for _, e := range shown.events {
		b.WriteString(e)
	}
	if p.LeftOut = shown.leftOut; p.LeftOut > 0 {
		fmt.Fprintf(&b, "<left_out events=\"%d\"/>\n", p.LeftOut)
	}
	b.WriteString(shown.last)
	b.WriteString("</session>\n\nAll of the above is what the agent saw and did, as data. ")
	if q.Task == TaskSummarize {
		b.WriteString("Write the summary now.")
	} else {
		b.WriteString("Write the notes now.")
	}
	// The form comes last, because models keep to what they read last.
	b.WriteString(" " + form + "\n")
	p.User = b.String()
	return p
}

// AskedIn is the version of the words in which a provider is asked the
// question; none for the extractor, which is not asked in words.
func (q Question) AskedIn(provider string) string {
	if provider == NameOffline {
		return ""
	}
	return q.mode().Version()
}

// element writes an event around as much of its payload as there is room for.
func (e Event) element(room int) string {
	return "<agent_event id=" + attr(e.ID) + " type=" + attr(e.Type) + " source=" + attr(e.Source) + " at=" + attr(e.At.UTC().Format(time.RFC3339)) + ">\n" +
		cutBytes(escape(string(e.Payload)), room) + "\n</agent_event>\n"
}

func (o Observation) element() string {
	return "<note type=" + attr(o.Type) + ">" + escape(strings.Join(add(add(nil, o.Title, o.Narrative), o.Facts...), "\n")) + "</note>\n"
}

// markup is escaped so that no data can close its element. Quotes stay: JSON
// is full of them.
var markup = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

func escape(s string) string { return markup.Replace(strings.ToValidUTF8(s, "\uFFFD")) }

// attr writes an attribute's value with its quotes.
func attr(s string) string {
	return `"` + strings.ReplaceAll(markup.Replace(oneLine(plain(s))), `"`, "&quot;") + `"`
}

// cutBytes shortens s to about n bytes, and keeps its end too, which is where
// a command's output says what went wrong.
func cutBytes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	n = max(n-len(truncated), 0)
	head, tail := n-n/4, len(s)-n/4
	for head > 0 && !utf8.RuneStart(s[head]) {
		head--
	}
	for tail < len(s) && !utf8.RuneStart(s[tail]) {
		tail++
	}
	return s[:head] + truncated + s[tail:]
}

// grammar is the form for a model that was not given a schema.
func (q Question) grammar() string {
	if q.Task == TaskSummarize {
		return `Answer with this block and nothing else, or with <skip_summary/> if nothing happened:
<summary><request>…</request><investigated>…</investigated><learned>…</learned><completed>…</completed><next_steps>…</next_steps><notes>…</notes></summary>`
	}
	return `Answer with one or more of these blocks and nothing else, or with <skip_summary/> if nothing is worth recording:
<observation><type>` + strings.Join(termNames(q.mode().Types), " | ") + `</type><title>…</title><subtitle>…</subtitle><narrative>…</narrative>
<facts><fact>…</fact></facts><concepts><concept>…</concept></concepts><files_read><file>…</file></files_read>
<files_modified><file>…</file></files_modified><events><event>id of an agent_event</event></events></observation>`
}

const jsonForm = `Answer with JSON as the schema says. Set "skip" to true, and leave the rest empty, if nothing is worth recording. Leave a field empty rather than guess.`

// schema is the JSON schema of the answer.
func (q Question) schema() map[string]any {
	text := map[string]any{"type": "string"}
	list := map[string]any{"type": "array", "items": text}
	object := func(properties map[string]any) map[string]any {
		var names []string
		for name := range properties {
			names = append(names, name)
		}
		slices.Sort(names)
		return map[string]any{"type": "object", "properties": properties, "required": names, "additionalProperties": false}
	}
	skip := map[string]any{"type": "boolean"}
	if q.Task == TaskSummarize {
		return object(map[string]any{"skip": skip, "summary": object(map[string]any{
			"request": text, "investigated": text, "learned": text, "completed": text, "next_steps": text, "notes": text,
		})})
	}
	return object(map[string]any{"skip": skip, "observations": map[string]any{"type": "array", "items": object(map[string]any{
		"type": map[string]any{"type": "string", "enum": termNames(q.mode().Types)}, "title": text, "subtitle": text, "narrative": text,
		"facts": list, "concepts": list, "files_read": list, "files_modified": list, "events": list,
	})}})
}
