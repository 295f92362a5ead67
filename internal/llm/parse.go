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
	Observations []writtenNote `json:"observations"`
	Summary      *writtenSum   `json:"summary"`
	Skip         bool          `json:"skip"`
}

type writtenNote struct {
	Type          loose     `json:"type"`
	Title         loose     `json:"title"`
	Subtitle      loose     `json:"subtitle"`
	Narrative     loose     `json:"narrative"`
	Facts         looseList `json:"facts"`
	Concepts      looseList `json:"concepts"`
	FilesRead     looseList `json:"files_read"`
	FilesModified looseList `json:"files_modified"`
	Events        looseList `json:"events"`
}

type writtenSum struct {
	Request      loose `json:"request"`
	Investigated loose `json:"investigated"`
	Learned      loose `json:"learned"`
	Completed    loose `json:"completed"`
	NextSteps    loose `json:"next_steps"`
	Notes        loose `json:"notes"`
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

// looseList is a list of texts, or one text where a list should be.
type looseList []string

// UnmarshalJSON implements json.Unmarshaler. It never fails.
func (l *looseList) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		if strings.TrimSpace(one) != "" {
			*l = looseList{one}
		}
		return nil
	}
	var many []any
	if json.Unmarshal(b, &many) == nil {
		for _, v := range many {
			if s, ok := v.(string); ok && strings.TrimSpace(s) != "" {
				*l = append(*l, s)
			}
		}
	}
	return nil
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
	text = strings.TrimSpace(strings.ToValidUTF8(cutBytes(text, maxText), "\uFFFD"))
	if text == "" {
		return Answer{}, errEmpty
	}
	var w written
	var err error
	tag, brace := firstTag(text), strings.IndexAny(text, "{[")
	if brace >= 0 && (tag < 0 || brace < tag) {
		if w, err = readJSON(text[brace:]); err != nil && tag >= 0 {
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

// readJSON reads the first JSON value: an object of the schema, or what stands
// in it, an observation, a list of them, or a summary.
func readJSON(text string) (written, error) {
	var raw json.RawMessage
	if err := json.NewDecoder(strings.NewReader(text)).Decode(&raw); err != nil {
		return written{}, errors.New("the JSON is not valid, or not complete")
	}
	var w written
	if raw[0] == '[' {
		if json.Unmarshal(raw, &w.Observations) != nil {
			return w, errors.New("the JSON is a list of something else than observations")
		}
		return w, nil
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil {
		return w, errors.New("the JSON is not valid")
	}
	has := func(names ...string) bool {
		for name := range fields {
			if slices.Contains(names, strings.ToLower(name)) {
				return true
			}
		}
		return false
	}
	var err error
	switch {
	case has("observations", "summary", "skip"):
		err = json.Unmarshal(raw, &w)
	case has("title", "narrative", "facts"):
		w.Observations = make([]writtenNote, 1)
		err = json.Unmarshal(raw, &w.Observations[0])
	case has("request", "investigated", "learned", "completed"):
		w.Summary = &writtenSum{}
		err = json.Unmarshal(raw, w.Summary)
	default:
		return w, errors.New(`the JSON has neither "observations" nor "summary" nor "skip"`)
	}
	if err != nil {
		return w, errors.New("the JSON does not fit the schema")
	}
	return w, nil
}

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

func content(text, name string) loose {
	return loose(strings.TrimSpace(html.UnescapeString(inner(text, name))))
}

func contents(text, list, item string) looseList {
	var out looseList
	for _, m := range elements[item].FindAllStringSubmatch(inner(text, list), -1) {
		if s := strings.TrimSpace(html.UnescapeString(m[1])); s != "" {
			out = append(out, s)
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
