package llm_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/llm"
)

// words that the extractor itself puts into facts, around what it quotes.
var ownWords = wordSet(`
	a an and the of in to is it on at by as was then now no longer with from for than that this
	new gone declares has sections fails failed passed became committed commit more becomes changed replaces removed added renamed
	test says line lines file files exit code lasted took reported detector data race failing packages package match matches times occurs result results
	found returned printed shows insertions deletions insertion deletion`)

func wordSet(s string) map[string]bool {
	set := map[string]bool{}
	for w := range strings.FieldsSeq(s) {
		set[w] = true
	}
	return set
}

var (
	word     = regexp.MustCompile(`[\pL\pN][\pL\pN_.'-]*`)
	newFile  = regexp.MustCompile(`^(\S+) is new: (\d+) lines?$`)
	howMany  = regexp.MustCompile(`\b\d+ (?:more|files?|lines?|matches|times|results?)\b`)
	ellipsis = regexp.MustCompile(`\S*…\S*`)
)

// unfounded gives the words of a text that are neither the extractor's own nor
// in the session: what it made up. Counts that it made are checked apart.
func unfounded(s recording, text string) []string {
	text = howMany.ReplaceAllString(ellipsis.ReplaceAllString(text, " "), " ")
	if m := newFile.FindStringSubmatch(text); m != nil {
		text = m[1] // the count is tested below
	}
	var out []string
	for _, w := range word.FindAllString(text, -1) {
		w = strings.Trim(w, ".'-")
		if !ownWords[strings.ToLower(w)] && !strings.Contains(s.flat, w) && !strings.Contains(s.flat, strings.ToLower(w[:1])+w[1:]) {
			out = append(out, w)
		}
	}
	return out
}

// quoted is what a text has in backticks: the events' own words, white space
// apart, but for what a cut left out.
func quoted(text string) []string {
	var out []string
	for i, part := range strings.Split(text, "`") {
		if i%2 == 0 {
			continue
		}
		for piece := range strings.SplitSeq(part, "…") {
			if piece = strings.TrimSpace(piece); piece != "" {
				out = append(out, piece)
			}
		}
	}
	return out
}

// figures are what is measured of a session's notes.
type figures struct {
	notes, facts, true     int
	edited, editedTold     int // files that an edit changed
	read, readTold         int // files that were read or edited
	commands, commandsTold int // commands that did something: failed, tested, committed
	words, own, events     int
}

func (f *figures) add(g figures) {
	f.notes += g.notes
	f.facts += g.facts
	f.true += g.true
	f.edited += g.edited
	f.editedTold += g.editedTold
	f.read += g.read
	f.readTold += g.readTold
	f.commands += g.commands
	f.commandsTold += g.commandsTold
	f.words += g.words
	f.own += g.own
	f.events += g.events
}

// measure takes the figures of a session whose notes are given.
func measure(t *testing.T, s recording, notes []llm.Observation) figures {
	t.Helper()
	f := figures{notes: len(notes), events: len(s.events)}
	told := map[string]bool{} // files
	rests := map[string]bool{}
	for _, o := range notes {
		for _, file := range slices.Concat(o.FilesModified, o.FilesRead) {
			told[file] = true
		}
		for _, e := range o.Events {
			rests[e] = true
		}
		for _, fact := range o.Facts {
			f.facts++
			wrong := unfounded(s, fact)
			for _, q := range quoted(fact) {
				if !strings.Contains(s.flat, strings.Join(strings.Fields(q), " ")) {
					wrong = append(wrong, q)
				}
			}
			if m := newFile.FindStringSubmatch(fact); m != nil && fmt.Sprint(s.lines[m[1]]) != m[2] {
				wrong = append(wrong, m[2]+" lines")
			}
			if len(wrong) == 0 {
				f.true++
			} else {
				t.Logf("%s: not in the events: %q\n  of %q", s.name, wrong, fact)
			}
		}
		all := strings.Join(append([]string{o.Title, o.Narrative}, o.Facts...), " ")
		for _, w := range word.FindAllString(all, -1) {
			f.words++
			if ownWords[strings.ToLower(w)] && !strings.Contains(s.flat, w) {
				f.own++
			}
		}
	}
	for file := range s.edited {
		if f.edited++; told[file] {
			f.editedTold++
		} else {
			t.Logf("%s: edited and not told: %s", s.name, file)
		}
	}
	for file := range s.seen {
		if f.read++; told[file] {
			f.readTold++
		} else {
			t.Logf("%s: read and not told: %s", s.name, file)
		}
	}
	for id, what := range s.telling {
		if f.commands++; rests[id] {
			f.commandsTold++
		} else {
			t.Logf("%s: done and not told: %s %s", s.name, id, what)
		}
	}
	return f
}

// notesOn asks as the pipeline does: about all of a turn, or event by event.
func notesOn(t *testing.T, s recording, each bool) []llm.Observation {
	t.Helper()
	if !each {
		return ask(t, llm.Question{Task: llm.TaskObserve, Events: s.events}).Observations
	}
	var notes []llm.Observation
	for _, e := range s.events {
		notes = append(notes, ask(t, llm.Question{Task: llm.TaskObserve, Events: []llm.Event{e}}).Observations...)
	}
	return notes
}

// TestQualityOnRealSessions: every fact is in the events, every changed file
// and every command that did something is told, and next to nothing is
// said that the events do not say.
func TestQualityOnRealSessions(t *testing.T) {
	t.Parallel()
	sessions := allSessions(t)
	require.Len(t, sessions, 10)
	for name, each := range map[string]bool{"a turn at a time": false, "an event at a time": true} {
		var all figures
		for _, s := range sessions {
			notes := notesOn(t, s, each)
			f := measure(t, s, notes)
			all.add(f)
			require.NotEmpty(t, notes, s.name)
			require.Equal(t, f.facts, f.true, "%s: facts that the events do not have", s.name)
		}
		t.Log(name+":", all.row())
		require.Equal(t, all.edited, all.editedTold, name)
		require.GreaterOrEqual(t, all.readTold*100, all.read*90, name)
		least := 90
		if each { // a run that passes says nothing by itself
			least = 60
		}
		require.GreaterOrEqual(t, all.commandsTold*100, all.commands*least, name)
		require.LessOrEqual(t, all.own*100, all.words*12, "%s: words of its own", name)
	}
}

func (f figures) row() string {
	return fmt.Sprintf("%d events, %d notes, %d facts of which %d in the events, %d of %d edited files, %d of %d files seen, %d of %d commands",
		f.events, f.notes, f.facts, f.true, f.editedTold, f.edited, f.readTold, f.read, f.commandsTold, f.commands)
}

// boilerplate is what notes are full of that nobody wrote for a reader.
var boilerplate = regexp.MustCompile(`(?i)\b(?:the agent|the assistant|this session|successfully|in order to|various|several files|was performed|has been updated|important to note|overall|made changes|code changes|updates? (?:the )?(?:file|code))\b`)

// TestNoBoilerplate: no two notes say the same, none says nothing, and none
// speaks as reports do, unless the events do.
func TestNoBoilerplate(t *testing.T) {
	t.Parallel()
	titles := map[string]string{}
	for _, s := range allSessions(t) {
		for _, o := range notesOn(t, s, false) {
			require.Empty(t, titles[o.Title], "%s says it too: %s", s.name, o.Title)
			titles[o.Title] = s.name
			require.NotEmpty(t, strings.TrimSpace(o.Narrative+strings.Join(o.Facts, "")), "%s: only a title: %s", s.name, o.Title)
			for _, text := range append([]string{o.Title, o.Subtitle, o.Narrative}, o.Facts...) {
				for _, phrase := range boilerplate.FindAllString(text, -1) {
					require.Contains(t, s.flat, phrase, "%s: %s", s.name, text)
				}
				for _, q := range quoted(text) {
					require.Contains(t, s.flat, strings.Join(strings.Fields(q), " "), "%s: not the events' words", s.name)
				}
			}
		}
	}
}

// TestTheMeasureMeasures: it finds a fact that was made up, a file that was
// left out and a command that nobody was told of.
func TestTheMeasureMeasures(t *testing.T) {
	t.Parallel()
	s := allSessions(t)[0]
	notes := notesOn(t, s, false)
	good := measure(t, s, notes)
	notes[0].Facts = append(notes[0].Facts, "`idOfAnyOtherKind` is new in events/other.go", "events/id.go is new: 3 lines", "the cache was warm")
	notes[0].FilesModified, notes[0].Events = nil, nil
	bad := measure(t, s, notes)
	require.Equal(t, good.true, bad.true)
	require.Equal(t, good.facts+3, bad.facts)
	require.Less(t, bad.editedTold, good.editedTold)
	require.Less(t, bad.commandsTold, good.commandsTold)
	require.NotEmpty(t, slices.Collect(maps.Keys(s.edited)))
}
