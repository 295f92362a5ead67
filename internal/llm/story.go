package llm

import (
	"slices"
	"strings"
)

// draft is an observation in the making.
type draft struct {
	Observation
	fixed string // what it made work again: a test or a command; empty for notes that fix nothing
	from  []int  // indexes of the steps it rests on; never empty
}

// edit is a change that one step made.
type edit struct {
	at   int
	diff diff
}

// story takes all steps of a question together: what was read for a
// change belongs to the change, and a failure, the edits after it and the pass
// are one thing that happened.
type story struct {
	steps  []step
	shells map[int]shell
	edits  []edit
	used   []bool
	drafts []draft
}

func tell(steps []step) []draft {
	st := &story{steps: steps, shells: map[int]shell{}, used: make([]bool, len(steps))}
	for i := range steps {
		s := &steps[i]
		if s.kind != kindTool || isQuiet(s) {
			continue
		}
		switch s.tool {
		case "Bash", "shell", "BashOutput":
			st.shells[i] = shellOf(s)
		case "Edit", "MultiEdit", "NotebookEdit", "Write":
			if d, ok := changeOf(s); ok {
				st.edits = append(st.edits, edit{i, d})
			}
		}
	}
	st.fixes()
	st.changes()
	st.research()
	st.rest()
	st.words()
	st.warnings()
	return st.drafts
}

func (st *story) put(o Observation, from ...int) {
	for _, i := range from {
		st.used[i] = true
	}
	st.drafts = append(st.drafts, draft{Observation: o, from: from})
}

// changeOf reads an edit or a written file. ok is false when it did not happen
// or changed nothing.
func changeOf(s *step) (diff, bool) {
	if s.err != "" || s.file() == "" || isScratch(s.file()) {
		return diff{}, false
	}
	if s.tool != "Write" {
		d := diffOf(s)
		return d, len(d.hunks) > 0
	}
	if s.out.get("type").str() == "update" || len(s.out.get("structuredPatch").list()) > 0 {
		if d := diffOf(s); len(d.hunks) > 0 {
			return d, true
		}
	}
	body := s.in.get("content", "file_text").text()
	if body == "" {
		body = s.out.get("content").text()
	}
	d := diff{file: s.file(), created: true, whole: lines(body)}
	d.part = strings.Contains(body, "…\n") // as what is shown of a long text is cut
	if len(d.whole) > maxScan {
		d.whole, d.part = d.whole[:maxScan], true
	}
	d.push(hunk{add: d.whole})
	return d, strings.TrimSpace(body) != ""
}

// isScratch tells files that nobody will look for tomorrow.
func isScratch(file string) bool {
	for _, dir := range []string{"/tmp/", "/private/tmp/", "/var/folders/", "/dev/"} {
		if strings.HasPrefix(file, dir) {
			return true
		}
	}
	return false
}

// rest writes on the tools that stand for themselves.
func (st *story) rest() {
	failedAs := map[string]int{} // title → draft, for the same failure seen again
	counted := -1                // the draft of what was counted
	for i := range st.steps {
		s := &st.steps[i]
		if st.used[i] || isQuiet(s) {
			continue
		}
		var o Observation
		ok := false
		switch {
		case s.kind == kindOther:
			o, ok = noteFree(s)
		case s.kind != kindTool:
			continue
		default:
			switch s.tool {
			case "Read", "NotebookRead", "View", "Edit", "MultiEdit", "NotebookEdit", "Write", "LS", "KillShell", "KillBash", "ToolSearch", "Skill", "EnterPlanMode":
			case "Bash", "shell", "BashOutput":
				sh := st.shells[i]
				if sh.bad {
					o, ok = noteFailure(sh), true
					if d, again := failedAs[o.Title]; again {
						st.drafts[d].from = append(st.drafts[d].from, i)
						continue
					}
					failedAs[o.Title] = len(st.drafts)
				} else if o, ok = noteFigure(sh); ok && counted >= 0 {
					d := &st.drafts[counted]
					if len(d.Facts) == 1 {
						d.Title += ", " + o.Title
					}
					d.Subtitle = "" // it is that of the first
					st.belongs(d, i, o.Facts[0])
					continue
				} else if ok {
					counted = len(st.drafts)
				} else if o, ok = noteShell(sh); ok && hasVerb(sh.cmds, "git commit") && st.committed(o, i) || !ok && sh.cmd.isTest() && st.passed(sh, i) {
					continue
				}
			case "Grep":
				o, ok = noteGrep(s)
				ok = ok && !st.answered(o)
			case "Glob":
				o, ok = noteGlob(s)
			case "WebFetch":
				o, ok = noteFetch(s)
			case "WebSearch":
				o, ok = noteWebSearch(s)
			case "Task", "Agent":
				o, ok = noteHelper(s)
			case "ExitPlanMode", "AskUserQuestion":
				o, ok = noteAnswers(s)
			case "TodoWrite", "TaskCreate", "TaskUpdate", "TaskList":
				o, ok = noteTodo(s)
			default:
				o, ok = noteOther(s)
			}
		}
		if ok {
			st.put(o, i)
		}
	}
}

// workBefore is the last work on files before a step; nil when there is none
// in this question.
func (st *story) workBefore(at int) *draft {
	var last *draft
	for i := range st.drafts {
		d := &st.drafts[i]
		if len(d.FilesModified) > 0 && slices.Min(d.from) < at && (last == nil || lastBefore(d.from, at) > lastBefore(last.from, at)) {
			last = d
		}
	}
	return last
}

func lastBefore(from []int, at int) int {
	last := -1
	for _, i := range from {
		if i < at {
			last = max(last, i)
		}
	}
	return last
}

// belongs makes a step part of the work, with a fact about it.
func (st *story) belongs(d *draft, at int, fact string) {
	if fact != "" {
		d.Facts = append(d.Facts[:min(len(d.Facts), maxFacts-1)], fact)
	}
	d.from = append(d.from, at)
	st.used[at] = true
}

// committed adds a commit to the notes on what it holds: the work of the same
// question that no other commit came after.
func (st *story) committed(o Observation, at int) bool {
	d := st.workBefore(at)
	if d == nil {
		return false
	}
	st.belongs(d, at, "committed as "+quote(strings.TrimPrefix(o.Title, "Committed: "), 160))
	return true
}

// passed adds a test run to the notes on the work that it came after.
func (st *story) passed(sh shell, at int) bool {
	d := st.workBefore(at)
	if d == nil || sh.cmd.raw == "" {
		return false
	}
	fact := ended(sh)
	for _, f := range d.Facts {
		if strings.Contains(f, " passed") {
			fact = "" // once is enough
		}
	}
	st.belongs(d, at, fact)
	return true
}

// answered tells a search whose result was opened or changed in the same
// question: the note on that says more.
func (st *story) answered(o Observation) bool {
	for _, d := range st.drafts {
		for _, f := range o.FilesRead {
			if slices.Contains(d.FilesRead, f) || slices.Contains(d.FilesModified, f) {
				return true
			}
		}
	}
	return false
}

// noteTodo keeps a to-do list only for a decision written into it.
func noteTodo(s *step) (Observation, bool) {
	for _, t := range s.in.get("todos").list() {
		if text := oneLine(t.get("content").str()); usable(text) && isDecision(text) {
			return Observation{Type: typeDecision, Title: asTitle(text), Concepts: []string{whyItExists}}, true
		}
	}
	return Observation{}, false
}

// warnings writes on credentials seen where they may stay: in a file, in what a
// command prints.
func (st *story) warnings() {
	for i := range st.steps {
		s := &st.steps[i]
		if len(s.secrets) == 0 || s.kind != kindTool {
			continue
		}
		where := first(nonEmpty(s.file()), "the output of "+s.tool)
		o := Observation{
			Type: typeSecurity, Title: upperFirst(article(s.secrets[0])) + " in " + where, Concepts: []string{gotcha},
			Narrative: "What looks like " + article(list(s.secrets, 3)) + " stands in " + where + ". The value is left out here.",
		}
		if s.tool == "Write" || s.tool == "Edit" || s.tool == "MultiEdit" {
			o.FilesModified = nonEmpty(s.file())
		} else {
			o.FilesRead = nonEmpty(s.file())
		}
		st.put(o, i)
	}
}

func article(s string) string {
	if strings.ContainsAny(s[:1], "aeiouAEIO") {
		return "an " + s
	}
	return "a " + s
}
