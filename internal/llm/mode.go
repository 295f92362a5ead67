package llm

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Mode says what observations are about: their types and concepts, and the
// words in which a model is asked for them. It is a folder of text files; the
// ones that come with obs are in modes/. A Mode is not changed once it is made.
type Mode struct {
	Name     string
	About    string // one line for people
	Types    []Term // of observations
	Concepts []Term
	Texts    Texts
	Tokens   Tokens
	version  string
	fitting  *fitting // of the offline extractor
}

// Term is a word of a mode with what it means.
type Term struct {
	Name        string `json:"name"`
	Description string `json:"description"`
}

// Texts are the words of a prompt. In Observe, {types} and {concepts} stand
// for the mode's own lists.
type Texts struct {
	System  string `json:"system,omitempty"`  // who is asked, and how to write
	Observe string `json:"observe,omitempty"` // asks for observations
	Summary string `json:"summary,omitempty"` // asks for the summary of a session
}

// Tokens bound what a prompt shows of events, notes and messages.
type Tokens struct {
	Observe int `json:"observe"`
	Summary int `json:"summary"`
}

const (
	maxModeText = 16 << 10 // bytes of each text
	maxTerms    = 40
	leastTokens = 1000
	mostTokens  = 1_000_000
)

//go:embed modes
var ownModes embed.FS

// DefaultMode is the mode of questions that name none.
const DefaultMode = "code"

var modes = sync.OnceValues(func() (map[string]*Mode, error) {
	dir, err := fs.Sub(ownModes, "modes")
	if err != nil {
		return nil, err
	}
	return readModes(dir, nil)
})

// Modes gives the modes by name: those that come with obs and, before them,
// those in dir, a folder with a folder for each mode. A mode of a name that
// obs has may leave out files: those are then obs' own. dir nil: only obs' own.
func Modes(dir fs.FS) (map[string]*Mode, error) {
	own, err := modes()
	if err != nil || dir == nil {
		return own, err
	}
	return readModes(dir, own)
}

func readModes(dir fs.FS, own map[string]*Mode) (map[string]*Mode, error) {
	all := map[string]*Mode{}
	maps.Copy(all, own)
	entries, err := fs.ReadDir(dir, ".")
	if err != nil {
		return nil, fmt.Errorf("read modes: %w", err)
	}
	found := 0
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		m, err := readMode(dir, e.Name(), own[e.Name()])
		if err != nil {
			return nil, fmt.Errorf("mode %s: %w", e.Name(), err)
		}
		found++
		all[m.Name] = m
	}
	if found == 0 {
		return nil, errors.New("read modes: there is no folder in it; a mode is a folder with mode.json, system.md, observe.md and summary.md")
	}
	return all, nil
}

// modeDoc is a mode.json.
type modeDoc struct {
	Name     string `json:"name"`
	About    string `json:"description"`
	Types    []Term `json:"types"`
	Concepts []Term `json:"concepts"`
	Tokens   Tokens `json:"tokens"`
}

// readMode reads a mode from its folder; what is not there is base's.
func readMode(dir fs.FS, name string, base *Mode) (*Mode, error) {
	m := &Mode{Name: name}
	if base != nil {
		*m = *base
	}
	raw, err := fs.ReadFile(dir, name+"/mode.json")
	switch {
	case err == nil:
		var doc modeDoc
		d := json.NewDecoder(strings.NewReader(string(raw)))
		d.DisallowUnknownFields()
		if err := d.Decode(&doc); err != nil {
			return nil, fmt.Errorf("mode.json: %w", err)
		}
		if doc.Name != "" && doc.Name != name {
			return nil, fmt.Errorf("mode.json: its name is %.80q, and that of its folder is not", doc.Name)
		}
		m.About, m.Types, m.Concepts, m.Tokens = doc.About, doc.Types, doc.Concepts, doc.Tokens
	case base == nil || !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	for file, text := range map[string]*string{"system.md": &m.Texts.System, "observe.md": &m.Texts.Observe, "summary.md": &m.Texts.Summary} {
		raw, err := fs.ReadFile(dir, name+"/"+file)
		switch {
		case err == nil:
			*text = string(raw)
		case *text == "" || !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	return m.made()
}

// With is the mode in other words: those of t, where it has some.
func (m *Mode) With(t Texts) (*Mode, error) {
	if t == (Texts{}) {
		return m, nil
	}
	c := *m
	c.Texts = Texts{orElse(t.System, m.Texts.System), orElse(t.Observe, m.Texts.Observe), orElse(t.Summary, m.Texts.Summary)}
	return c.made()
}

// made checks a mode and gives it its version.
func (m *Mode) made() (*Mode, error) {
	if !plainTerm(m.Name) {
		return nil, fmt.Errorf("%.80q is no name: those are a-z, 0-9, - and _, at most 64", m.Name)
	}
	for _, part := range []struct {
		what  string
		terms []Term
	}{{"types", m.Types}, {"concepts", m.Concepts}} {
		if len(part.terms) == 0 || len(part.terms) > maxTerms {
			return nil, fmt.Errorf("%s: there are %d, and 1 to %d are possible", part.what, len(part.terms), maxTerms)
		}
		for i, t := range part.terms {
			if !plainTerm(t.Name) || len(t.Description) > 400 {
				return nil, fmt.Errorf("%s: %.80q is no name (a-z, 0-9, - and _, at most 64), or its description is longer than 400 bytes", part.what, t.Name)
			}
			if slices.ContainsFunc(part.terms[:i], func(o Term) bool { return o.Name == t.Name }) {
				return nil, fmt.Errorf("%s: %s is there twice", part.what, t.Name)
			}
		}
	}
	if err := m.Texts.Check(); err != nil {
		return nil, err
	}
	if blank(m.Texts.System) || blank(m.Texts.Observe) || blank(m.Texts.Summary) {
		return nil, errors.New("a text of the prompts is empty")
	}
	for _, n := range []int{m.Tokens.Observe, m.Tokens.Summary} {
		if n < leastTokens || n > mostTokens {
			return nil, fmt.Errorf("tokens: %d is not from %d to %d", n, leastTokens, mostTokens)
		}
	}
	h := sha256.New()
	for _, s := range []string{m.Texts.System, m.Texts.Observe, m.Texts.Summary, terms(m.Types), terms(m.Concepts), fmt.Sprint(m.Tokens), promptForm} {
		fmt.Fprintf(h, "%d %s", len(s), s)
	}
	m.fitting = m.fit()
	m.version = m.Name + "@" + hex.EncodeToString(h.Sum(nil))[:12]
	return m, nil
}

// Check says what is wrong with texts, empty ones apart.
func (t Texts) Check() error {
	for _, part := range []struct{ what, text string }{{"system", t.System}, {"observe", t.Observe}, {"summary", t.Summary}} {
		if len(part.text) > maxModeText {
			return fmt.Errorf("%s: %d bytes, and %d are possible", part.what, len(part.text), maxModeText)
		}
	}
	return nil
}

// Version names the mode and everything in it that a model is asked with, and
// changes when a word of that does: code@1f2e3d4c5b6a.
func (m *Mode) Version() string { return m.version }

// mode is the question's mode, or the default one.
func (q Question) mode() *Mode {
	if q.Mode != nil {
		return q.Mode
	}
	all, err := modes()
	if err != nil {
		panic("llm: the embedded modes: " + err.Error()) // a test reads them
	}
	return all[DefaultMode]
}

func terms(list []Term) string {
	var b strings.Builder
	for _, t := range list {
		b.WriteString("- " + t.Name + ": " + oneLine(t.Description) + "\n")
	}
	return strings.TrimRight(b.String(), "\n")
}

func termNames(list []Term) []string {
	out := make([]string, len(list))
	for i, t := range list {
		out[i] = t.Name
	}
	return out
}

func plainTerm(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}

func blank(s string) bool { return strings.TrimSpace(s) == "" }
