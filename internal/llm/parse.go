package llm

import (
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"regexp"
	"slices"
	"strings"
)

// written is what a model wrote, in whichever form.
type written struct {
	Observations []writtenNote
	Summary      *writtenSum
	Skip         bool
}

type writtenNote struct {
	Type, Title, Subtitle, Narrative                  loose
	Facts, Concepts, FilesRead, FilesModified, Events looseList
}

type writtenSum struct {
	Request, Investigated, Learned, Completed, NextSteps, Notes loose
}

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

var (
	errEmpty   = errors.New("the answer is empty")
	errProse   = errors.New("the answer is neither the JSON nor the blocks that were asked for")
	errNothing = errors.New("no block of the answer says anything")
)

// maxText bounds what of an answer is read.
const maxText = 1 << 20

// read makes an answer of what a model wrote: JSON as the schema asks for, or
// the blocks of the grammar, whichever comes first, with prose and fences
// around it. The error may be shown to the model: it quotes nothing.
func read(task Task, text string) (Answer, error) {
	text = unthought(strings.ToValidUTF8(cutBytes(text, maxText), "\uFFFD"))
	if text == "" {
		return Answer{}, errEmpty
	}
	var said string // JSON in a string of JSON
	if text[0] == '"' && json.Unmarshal([]byte(text), &said) == nil {
		text = strings.TrimSpace(said)
	}
	tag := firstTag(text)
	if tag < 0 && escapedRoot.MatchString(text) {
		text = html.UnescapeString(text)
		tag = firstTag(text)
	}
	var w written
	var err error
	brace := strings.IndexAny(text, "{[")
	if brace >= 0 && (tag < 0 || brace < tag) {
		if w, err = readJSON(text); err != nil && tag >= 0 {
			w, err = readBlocks(text)
		}
	} else {
		w, err = readBlocks(text)
	}
	if err != nil {
		return Answer{}, err
	}
	return w.answer(task)
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

var escapedRoot = regexp.MustCompile(`(?i)&lt;(?:observation|summary|skip_summary)\b`)

var roots = regexp.MustCompile(`(?i)<(?:observation|summary|skip_summary)\b[^>]*>`)

func firstTag(text string) int {
	if at := roots.FindStringIndex(text); at != nil {
		return at[0]
	}
	return -1
}

// element matches each element of that name, whatever its case.
func element(name string) *regexp.Regexp {
	return regexp.MustCompile(`(?is)<` + name + `(?:\s[^>]*)?>(.*?)</` + name + `\s*>`)
}

var elements = func() map[string]*regexp.Regexp {
	all := map[string]*regexp.Regexp{}
	for _, name := range []string{
		"observation", "summary", "type", "title", "subtitle", "narrative", "facts", "fact", "concepts", "concept",
		"files_read", "files_modified", "file", "events", "event",
		"request", "investigated", "learned", "completed", "next_steps", "notes",
	} {
		all[name] = element(name)
	}
	return all
}()

func inner(text, name string) string {
	if m := elements[name].FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}

func content(text, name string) loose { return loose(unescaped(inner(text, name))) }

var cdata = regexp.MustCompile(`(?s)<!\[CDATA\[(.*?)\]\]>`)

// unescaped is the text of an element. In CDATA nothing is escaped.
func unescaped(text string) string {
	var b strings.Builder
	at := 0
	for _, m := range cdata.FindAllStringSubmatchIndex(text, -1) {
		b.WriteString(html.UnescapeString(text[at:m[0]]))
		b.WriteString(text[m[2]:m[3]])
		at = m[1]
	}
	b.WriteString(html.UnescapeString(text[at:]))
	return strings.TrimSpace(b.String())
}

// contents are the items of a list. Where somebody forgot their tags, each line
// is one.
func contents(text, list, item string) looseList {
	var out looseList
	all := inner(text, list)
	found := elements[item].FindAllStringSubmatch(all, -1)
	for _, m := range found {
		if text := unescaped(m[1]); text != "" {
			out = append(out, text)
		}
	}
	if len(found) == 0 {
		for _, l := range lines(all) {
			out = out.and(strings.TrimSpace(listMark.ReplaceAllString(l, "")))
		}
	}
	return out
}

// readBlocks reads the grammar. It is read by search and not by an XML parser:
// models do not escape what they quote.
func readBlocks(text string) (written, error) {
	var w written
	for _, m := range elements["observation"].FindAllStringSubmatch(text, -1) {
		o := m[1]
		w.Observations = append(w.Observations, writtenNote{
			Type: content(o, "type"), Title: content(o, "title"), Subtitle: content(o, "subtitle"), Narrative: content(o, "narrative"),
			Facts: contents(o, "facts", "fact"), Concepts: contents(o, "concepts", "concept"),
			FilesRead: contents(o, "files_read", "file"), FilesModified: contents(o, "files_modified", "file"),
			Events: contents(o, "events", "event"),
		})
	}
	if len(w.Observations) == 0 {
		if m := elements["summary"].FindStringSubmatch(text); m != nil {
			s := m[1]
			w.Summary = &writtenSum{
				content(s, "request"), content(s, "investigated"), content(s, "learned"),
				content(s, "completed"), content(s, "next_steps"), content(s, "notes"),
			}
		}
	}
	switch first := roots.FindString(text); {
	case len(w.Observations) > 0 || w.Summary != nil:
	case first == "":
		return w, errProse
	case strings.HasPrefix(strings.ToLower(first), "<skip_summary"):
		w.Skip = true
	default:
		return w, fmt.Errorf("the answer breaks off: %s is not closed", strings.ToLower(first[:strings.IndexAny(first, " >\n\t")])+">")
	}
	return w, nil
}

// answer makes the answer to the task. Notes where a summary was asked for
// become one, and the other way round: what was written is not thrown away.
func (w written) answer(task Task) (Answer, error) {
	var notes []Observation
	for _, n := range w.Observations {
		if o := n.observation(); o.Title != "" && len(notes) < maxNotes {
			notes = append(notes, o)
		}
	}
	sum := w.Summary.summary()
	switch {
	case task == TaskSummarize && sum == nil && len(notes) > 0:
		sum = foldNotes(notes)
	case task != TaskSummarize && len(notes) == 0 && sum != nil:
		notes = []Observation{noteOfSummary(*sum)}
	}
	a := Answer{Observations: notes}
	if task == TaskSummarize {
		a = Answer{Summary: sum}
	}
	if a.Summary == nil && len(a.Observations) == 0 {
		if !w.Skip && (len(w.Observations) > 0 || w.Summary != nil) {
			return a, errNothing
		}
		a.Skipped = true
	}
	return a, nil
}

func (n writtenNote) observation() Observation {
	o := Observation{
		Type: strings.ToLower(string(n.Type)), Title: string(n.Title), Subtitle: string(n.Subtitle), Narrative: string(n.Narrative),
		Facts: n.Facts, FilesRead: n.FilesRead, FilesModified: n.FilesModified, Events: n.Events,
	}
	o.Type = tidy(strings.TrimSpace(o.Type), 40)
	if o.Type == "" {
		o.Type = typeDiscovery
	}
	for _, c := range n.Concepts {
		c, _, _ = strings.Cut(c, ":") // "pattern: a thing done often"
		if c = strings.TrimSpace(c); !strings.EqualFold(c, o.Type) {
			o.Concepts = append(o.Concepts, c)
		}
	}
	if strings.TrimSpace(o.Title) == "" { // then its beginning is the title
		o.Title = strings.Join(append([]string{o.Narrative}, o.Facts...), "\n")
		o.Title, _, _ = strings.Cut(strings.TrimSpace(o.Title), "\n")
	}
	return bound(o)
}

func (s *writtenSum) summary() *Summary {
	if s == nil {
		return nil
	}
	part := func(l loose) string {
		t, _ := redact(strings.TrimSpace(plain(string(l))))
		return clip(t, maxPart)
	}
	sum := Summary{part(s.Request), part(s.Investigated), part(s.Learned), part(s.Completed), part(s.NextSteps), part(s.Notes)}
	if sum == (Summary{Notes: sum.Notes}) {
		return nil
	}
	return &sum
}

func foldNotes(notes []Observation) *Summary {
	var done, learned []string
	for _, n := range notes {
		done = append(done, n.Title)
		if n.Narrative != "" {
			learned = append(learned, n.Narrative)
		}
	}
	return &Summary{Completed: clip(strings.Join(done, "; "), maxPart), Learned: clip(strings.Join(learned, " "), maxPart)}
}

func noteOfSummary(s Summary) Observation {
	var parts []string
	for _, p := range []string{s.Completed, s.Learned, s.Investigated, s.Request, s.NextSteps} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	title, _, _ := strings.Cut(parts[0], "\n")
	return bound(Observation{Type: typeChange, Title: title, Narrative: strings.Join(parts, " ")})
}
