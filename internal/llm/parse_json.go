package llm

import (
	"encoding/json"
	"errors"
	"html"
	"slices"
	"strings"
)

// loose is text where a model may have put something else: what is no text
// counts as none, a list is joined.
type loose string

// UnmarshalJSON implements json.Unmarshaler. It never fails.
func (l *loose) UnmarshalJSON(b []byte) error {
	var list looseList
	_ = list.UnmarshalJSON(b)
	*l = loose(strings.Join(list, "\n"))
	return nil
}

// looseList is a list of texts, or one text where a list should be. What was
// shown to the model was escaped, and models copy that.
type looseList []string

// UnmarshalJSON implements json.Unmarshaler. It never fails.
func (l *looseList) UnmarshalJSON(b []byte) error {
	*l = nil
	var one string
	if json.Unmarshal(b, &one) == nil {
		*l = l.and(one)
		return nil
	}
	var many []any
	if json.Unmarshal(b, &many) == nil {
		for _, v := range many {
			if s, ok := v.(string); ok {
				*l = l.and(s)
			}
		}
	}
	return nil
}

func (l looseList) and(s string) looseList {
	if s = html.UnescapeString(s); strings.TrimSpace(s) == "" {
		return l
	}
	return append(l, s)
}

var errJSON = errors.New("the JSON is not valid, or not complete")

// readJSON reads the first JSON value that is an object of the schema, or what
// stands in it: an observation, with others behind it, a list of them, or a
// summary. That there is nothing to say is not believed of a part.
func readJSON(text string) (w written, err error) {
	err = errJSON
	values(text, func(raw json.RawMessage, part bool) bool {
		one, other := writtenIn(raw, 0)
		switch {
		case len(w.Observations) > 0:
			if other == nil && len(one.Observations) == 1 {
				w.Observations = append(w.Observations, one.Observations...)
			}
			return false
		case other == nil && raw[0] == '[' && len(one.Observations) == 0:
			if !part {
				err = nil // unless something follows
			}
			return false
		case other == nil:
			w, err = one, nil
			return len(one.Observations) == 0 || len(fields(raw)["title"]) == 0 // but for an observation by itself
		}
		if err == errJSON { //nolint:errorlint // the first thing that was wrong with a value says most
			err = other
		}
		return false
	})
	return w, err
}

var (
	errList   = errors.New("the JSON is a list of something else than observations")
	errFields = errors.New(`the JSON has neither "observations" nor "summary" nor "skip"`)
)

// writtenIn is what one JSON value says.
func writtenIn(raw json.RawMessage, deep int) (written, error) {
	var w written
	if raw[0] == '[' {
		notes, ok := notesIn(raw)
		if !ok {
			return w, errList
		}
		return written{Observations: notes}, nil
	}
	f := fields(raw)
	has := func(names ...string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return len(f[n]) > 0 })
	}
	switch {
	case has("observations", "skip"), has("summary") && f["summary"][0] == '{':
		w.Skip = isTrue(f["skip"])
		notes, ok := notesIn(f["observations"])
		if !ok {
			return w, errList
		}
		w.Observations = notes
		if s := f["summary"]; len(s) > 0 && s[0] == '{' {
			w.Summary = sumOf(fields(s))
		}
	case has("title", "narrative", "facts"):
		w.Observations = []writtenNote{noteOf(f)}
	case has("request", "investigated", "learned", "completed"):
		w.Summary = sumOf(f)
	case len(f) == 1 && deep < 3: // the answer in a wrapper: {"answer": …}, {"arguments": "…"}
		for _, v := range f {
			var text string
			if json.Unmarshal(v, &text) == nil {
				v = json.RawMessage(strings.TrimSpace(text))
			}
			if len(v) > 0 && (v[0] == '{' || v[0] == '[') && json.Valid(v) {
				return writtenIn(v, deep+1)
			}
		}
		return w, errFields
	default:
		return w, errFields
	}
	return w, nil
}

// notesIn reads a list of observations, or one where a list should be. ok is
// false when it is a list of something else.
func notesIn(raw json.RawMessage) (notes []writtenNote, ok bool) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, true
	}
	if raw[0] == '{' {
		return []writtenNote{noteOf(fields(raw))}, true
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return nil, false
	}
	for _, one := range list {
		if f := fields(one); f != nil {
			notes = append(notes, noteOf(f))
		}
	}
	return notes, len(notes) > 0 || len(list) == 0
}

func isTrue(raw json.RawMessage) bool {
	return slices.Contains([]string{"true", `"true"`, `"yes"`, "1"}, strings.ToLower(string(raw)))
}

func textIn(raw json.RawMessage) (l loose) {
	_ = l.UnmarshalJSON(raw)
	return l
}

func listIn(raw json.RawMessage) (l looseList) {
	_ = l.UnmarshalJSON(raw)
	return l
}

func noteOf(f map[string]json.RawMessage) writtenNote {
	return writtenNote{
		Type: textIn(f["type"]), Title: textIn(f["title"]), Subtitle: textIn(f["subtitle"]), Narrative: textIn(f["narrative"]),
		Facts: listIn(f["facts"]), Concepts: listIn(f["concepts"]),
		FilesRead: listIn(f["files_read"]), FilesModified: listIn(f["files_modified"]), Events: listIn(f["events"]),
	}
}

func sumOf(f map[string]json.RawMessage) *writtenSum {
	return &writtenSum{
		textIn(f["request"]), textIn(f["investigated"]), textIn(f["learned"]),
		textIn(f["completed"]), textIn(f["next_steps"]), textIn(f["notes"]),
	}
}
