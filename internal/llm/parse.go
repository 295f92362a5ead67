package llm

import (
	"encoding/json"
	"errors"
	"html"
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
