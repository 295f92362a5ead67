package observe

import (
	"encoding/json"
	"strings"

	"github.com/seed-245eaa15/obs/internal/llm"
)

// Bounds of what is stored of a note, in bytes and items. A provider's own
// bounds are tighter; these hold for every one.
const (
	maxContent   = 64 << 10
	maxExtra     = 32 << 10
	maxKind      = 64
	maxTitle     = 500
	maxSubtitle  = 1000
	maxNarrative = 32 << 10
	maxFact      = 2000
	maxConcept   = 200
	maxPath      = 500
	maxItems     = 100
)

// rendered is an observation as it is stored.
type rendered struct {
	kind     string
	content  string
	extra    string // search_extra
	metadata json.RawMessage
}

// noteMeta is the metadata of an observation, in the contract's order.
type noteMeta struct {
	Title         string   `json:"title"`
	Subtitle      string   `json:"subtitle"`
	Facts         []string `json:"facts"`
	Narrative     string   `json:"narrative"`
	Concepts      []string `json:"concepts"`
	FilesRead     []string `json:"files_read"`
	FilesModified []string `json:"files_modified"`
	Provider      string   `json:"provider"`
	Model         string   `json:"model"`
	Prompt        string   `json:"prompt,omitempty"` // the version of the words in which the model was asked
}

// author says who wrote a note.
type author struct {
	provider, model string
	prompt          string // see llm.Mode.Version; empty where no model was asked
}

// render makes an observation of what the provider wrote, without what
// privacy tags enclose: a provider may quote what it should not have.
func render(o llm.Observation, by author) rendered {
	m := noteMeta{
		Title: o.Title, Subtitle: o.Subtitle, Facts: o.Facts, Narrative: o.Narrative, Concepts: o.Concepts,
		FilesRead: o.FilesRead, FilesModified: o.FilesModified, Provider: by.provider, Model: by.model, Prompt: by.prompt,
	}
	kind := clean(o.Type, maxKind)
	if kind == "" {
		kind = "discovery"
	}
	return m.render(kind)
}

func (m noteMeta) render(kind string) rendered {
	m.Title, m.Subtitle, m.Narrative = clean(m.Title, maxTitle), clean(m.Subtitle, maxSubtitle), clean(m.Narrative, maxNarrative)
	m.Facts, m.Concepts = cleanAll(m.Facts, maxFact), cleanAll(m.Concepts, maxConcept)
	m.FilesRead, m.FilesModified = cleanAll(m.FilesRead, maxPath), cleanAll(m.FilesModified, maxPath)
	m.Provider, m.Model, m.Prompt = clean(m.Provider, maxConcept), clean(m.Model, maxConcept), clean(m.Prompt, maxConcept)

	r := rendered{kind: kind, content: cut(NoteText(m.Title, m.Subtitle, m.Narrative, m.Facts), maxContent)}
	if r.content != "" {
		var named []string
		named = append(append(append(named, m.FilesModified...), m.FilesRead...), m.Concepts...)
		r.extra = cut(searchWords(named), maxExtra)
	}
	r.metadata = marshal(m)
	return r
}

// summaryMeta is the metadata of a summary.
type summaryMeta struct {
	Request      string `json:"request"`
	Investigated string `json:"investigated"`
	Learned      string `json:"learned"`
	Completed    string `json:"completed"`
	NextSteps    string `json:"next_steps"`
	Notes        string `json:"notes"`
	Provider     string `json:"provider"`
	Model        string `json:"model"`
	Prompt       string `json:"prompt,omitempty"`
}

const kindSummaryNote = "summary"

func renderSummary(sum llm.Summary, by author) rendered {
	return summaryMeta{
		Request: sum.Request, Investigated: sum.Investigated, Learned: sum.Learned, Completed: sum.Completed,
		NextSteps: sum.NextSteps, Notes: sum.Notes, Provider: by.provider, Model: by.model, Prompt: by.prompt,
	}.render()
}

func (m summaryMeta) render() rendered {
	var parts []string
	for _, p := range []struct {
		label string
		text  *string
	}{
		{"Request", &m.Request},
		{"Investigated", &m.Investigated},
		{"Learned", &m.Learned},
		{"Completed", &m.Completed},
		{"Next steps", &m.NextSteps},
		{"Notes", &m.Notes},
	} {
		if *p.text = clean(*p.text, maxNarrative); *p.text != "" {
			parts = append(parts, p.label+": "+*p.text)
		}
	}
	m.Provider, m.Model, m.Prompt = clean(m.Provider, maxConcept), clean(m.Model, maxConcept), clean(m.Prompt, maxConcept)
	return rendered{kind: kindSummaryNote, content: cut(paragraphs(parts...), maxContent), metadata: marshal(m)}
}

// NoteText puts the parts of a note together as the content of an observation.
// Any of them may be missing.
func NoteText(title, subtitle, narrative string, facts []string) string {
	var list []string
	for _, f := range facts {
		list = append(list, "- "+f)
	}
	return paragraphs(title, subtitle, narrative, strings.Join(list, "\n"))
}

// paragraphs joins what is not empty by blank lines.
func paragraphs(parts ...string) string {
	var said []string
	for _, p := range parts {
		if p != "" {
			said = append(said, p)
		}
	}
	return strings.Join(said, "\n\n")
}

// clean makes text of a provider fit to be stored: nothing private, no secret,
// nothing that Postgres refuses, no more than most bytes.
func clean(s string, most int) string {
	return cut(strings.TrimSpace(plain(hide(s))), most)
}

func cleanAll(list []string, most int) []string {
	out := []string{}
	for _, s := range list {
		if s = clean(s, most); s != "" && len(out) < maxItems {
			out = append(out, s)
		}
	}
	return out
}

func marshal(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic("observe: metadata is strings: " + err.Error())
	}
	return b
}
