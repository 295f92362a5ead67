package llm

import (
	"path"
	"regexp"
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
	if len(d.whole) > maxScan {
		d.whole = d.whole[:maxScan]
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

// goal names what a command checks, so that a later run can be recognised.
func goal(sh shell) (verb, target string) {
	for _, w := range sh.cmd.words[min(1, len(sh.cmd.words)):] {
		if strings.HasPrefix(w, "./") || strings.HasPrefix(w, "tests/") || strings.Contains(w, "::") {
			target = strings.TrimSuffix(w, "/")
			break
		}
	}
	return sh.cmd.verb(), target
}

func sameGoal(a, b shell) bool {
	va, ta := goal(a)
	vb, tb := goal(b)
	if va != vb || va == "" {
		return false
	}
	wide := func(wide, narrow string) bool {
		base, ok := strings.CutSuffix(wide, "...")
		return ok && strings.HasPrefix(narrow, base)
	}
	return ta == tb || ta == "" || wide(ta, tb) || wide(tb, ta)
}

// fixes finds the failures that an edit ended: the same check fails, something
// is changed, the check passes.
func (st *story) fixes() {
	for i := range st.steps {
		failed, ok := st.shells[i]
		if !ok || !failed.bad || st.used[i] || failed.cmd.raw == "" {
			continue
		}
		if slip(failed) && st.overcome(i) {
			// What did not compile a minute ago is nobody's memory.
			st.used[i] = true
			continue
		}
		pass := -1
		var fails, between []int
		fails = append(fails, i)
		for j := i + 1; j < len(st.steps) && pass < 0; j++ {
			sh, ok := st.shells[j]
			switch {
			case !ok || !sameGoal(failed, sh):
			case sh.bad:
				fails = append(fails, j)
			default:
				pass = j
			}
		}
		if pass < 0 {
			continue
		}
		var diffs []diff
		for _, e := range st.edits {
			if e.at > i && e.at < pass && !st.used[e.at] && !isProse(e.diff.file) {
				between = append(between, e.at)
				diffs = append(diffs, e.diff)
			}
		}
		if len(diffs) == 0 {
			continue
		}
		from := append(append(fails, between...), pass)
		o, fixed := noteFix(failed, st.shells[pass], mergeDiffs(diffs))
		st.put(o, from...)
		st.drafts[len(st.drafts)-1].fixed = fixed
	}
}

// slip is a failure of the moment: it did not build.
func slip(sh shell) bool { return sh.fail.compile && len(sh.fail.tests) == 0 && !sh.fail.race }

// overcome tells whether the same program got further after an edit.
func (st *story) overcome(i int) bool {
	edited := len(st.edits) > 0 && st.edits[len(st.edits)-1].at > i
	for j := i + 1; j < len(st.steps) && edited; j++ {
		if sh, ok := st.shells[j]; ok && sh.cmd.prog() == st.shells[i].cmd.prog() && !(sh.bad && slip(sh)) {
			return true
		}
	}
	return false
}

// noteFix tells a failure, its fix and the pass as one. fixed is what works
// again.
func noteFix(failed, passed shell, diffs []diff) (o Observation, fixed string) {
	o = noteEdits(diffs)
	f := failed.fail
	what, why := o.Title, o.Narrative
	if why != "" {
		what = headOf(unstop(sentences(why)[0]))
		if m := remark.FindStringSubmatch(what); m != nil {
			what = m[1] + " " + m[2]
		}
	}
	fixed = failed.name()
	if len(f.tests) > 0 {
		fixed, _, _ = strings.Cut(f.tests[0], "/")
	}
	if f.race {
		fixed = "the data race in " + fixed
	}
	o.Type, o.Concepts = typeBugfix, []string{problemSolution, whatChanged}
	o.Title = "Fixed " + fixed + ": " + what
	o.Subtitle = clip(first(nonEmpty(f.meant), f.message), maxSubtitle)
	said := quote(f.message, 240)
	if len(f.errors) > 0 {
		said = f.errors[0].quoted(240)
	}
	o.Narrative = failed.name() + " failed: " + said + ". " + why
	facts := failureFacts(f)
	facts = append(facts[:min(4, len(facts))], o.Facts...)
	ended := quote(passed.name(), 120) + " then passed"
	if ok := okPackage.FindString(passed.out); ok != "" {
		ended += ": " + quote(ok, 100)
	}
	o.Facts = append(facts[:min(maxFacts-1, len(facts))], ended)
	return o, fixed
}

var remark = regexp.MustCompile("^`(\\w+)`: (.+)$")

// mergeDiffs joins the changes to the same file.
func mergeDiffs(diffs []diff) []diff {
	var out []diff
	at := map[string]int{}
	for _, d := range diffs {
		i, ok := at[d.file]
		if !ok || d.created {
			if ok {
				out[i] = d
				continue
			}
			at[d.file] = len(out)
			out = append(out, d)
			continue
		}
		m := &out[i]
		if m.created {
			// What is edited right after it was written is part of writing it.
			for _, h := range d.hunks {
				m.whole = append(m.whole, h.add...)
			}
			m.hunks = []hunk{{add: m.whole}}
			m.add += d.add - d.del
			continue
		}
		m.hunks = append(append([]hunk{}, m.hunks...), d.hunks...)
		m.add += d.add
		m.del += d.del
	}
	return out
}

// changes writes on the edits that ended no failure: one note for the work on
// a file, its tests included.
func (st *story) changes() {
	type work struct {
		key   string
		diffs []diff
		from  []int
	}
	var works []*work
	for _, e := range st.edits {
		if st.used[e.at] || !e.diff.says() {
			continue
		}
		key := e.diff.file
		if isTest(key) {
			key = tested(key)
		}
		var w *work
		for _, have := range works {
			if have.key == key {
				w = have
			}
		}
		if w == nil {
			w = &work{key: key}
			works = append(works, w)
		}
		w.diffs = append(w.diffs, e.diff)
		w.from = append(w.from, e.at)
	}
	// Files made together in one folder are one thing.
	for i := 0; i < len(works); i++ {
		for j := i + 1; j < len(works); j++ {
			a, b := works[i], works[j]
			if path.Dir(a.key) == path.Dir(b.key) && isNewCode(a.diffs) && isNewCode(b.diffs) {
				a.diffs, a.from = append(a.diffs, b.diffs...), append(a.from, b.from...)
				works = append(works[:j], works[j+1:]...)
				j--
			}
		}
	}
	for _, w := range works {
		st.put(noteEdits(mergeDiffs(w.diffs)), w.from...)
	}
}

func isNewCode(diffs []diff) bool {
	for _, d := range diffs {
		if d.created && !isProse(d.file) && !isTest(d.file) && language(d.file) != ".sql" {
			return true
		}
	}
	return false
}

// tested is the file that a test file is for, by name.
func tested(file string) string {
	for _, mark := range []string{"_test", ".test", ".spec", "_spec"} {
		if i := strings.LastIndex(file, mark+"."); i > 0 {
			return file[:i] + file[i+len(mark):]
		}
	}
	dir, base := path.Split(file)
	return dir + strings.TrimPrefix(base, "test_")
}

// research writes on what was read and looked up. Reading a file to change it
// is part of the change; other reading is told in runs, a folder at a time.
func (st *story) research() {
	changed := map[string]int{} // file → its draft
	for i, d := range st.drafts {
		for _, f := range d.FilesModified {
			changed[f] = i
		}
	}
	var run []fileRead
	var from []int
	flush := func() {
		if len(run) > 0 {
			st.put(noteReads(run), from...)
		}
		run, from = nil, nil
	}
	read := map[string]bool{}
	for i := range st.steps {
		s := &st.steps[i]
		if s.kind != kindTool || isQuiet(s) {
			continue
		}
		var r fileRead
		ok := false
		switch s.tool {
		case "Read", "NotebookRead", "View":
			r, ok = readOf(s)
		case "Bash":
			r, ok = st.shells[i].reads(s)
		default:
			continue
		}
		if d, edited := changed[r.file]; edited && r.file != "" {
			st.drafts[d].from = append(st.drafts[d].from, i)
			continue
		}
		if !ok || read[r.file] {
			continue
		}
		read[r.file] = true
		if len(run) > 0 && (path.Dir(run[0].file) != path.Dir(r.file) || len(run) == 5) {
			flush()
		}
		run, from = append(run, r), append(from, i)
	}
	flush()
}

// reads takes a cat or a sed -n as the reading of a file.
func (sh shell) reads(s *step) (fileRead, bool) {
	c := sh.cmd
	if sh.bad || len(c.words) < 2 || c.prog() != "cat" && c.prog() != "bat" && !(c.prog() == "sed" && c.words[1] == "-n") {
		return fileRead{}, false
	}
	file := c.words[len(c.words)-1]
	if strings.HasPrefix(file, "-") || strings.ContainsAny(file, "*$ ") || !strings.Contains(path.Base(file), ".") {
		return fileRead{}, false
	}
	r := fileRead{file: s.rel(file), text: lines(sh.out), from: 1}
	r.names = declaredIn(r.file, r.text)
	r.doc = docOf(r.file, r.text)
	return r, len(r.names) > 0 || r.doc != ""
}

// rest writes on the tools that stand for themselves.
func (st *story) rest() {
	failedAs := map[string]int{} // title → draft, for the same failure seen again
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
				} else if o, ok = noteShell(sh); ok && hasVerb(sh.cmds, "git commit") && st.committed(o, i) {
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

// committed adds a commit to the notes on what it holds: the work of the same
// question that no other commit came after.
func (st *story) committed(o Observation, at int) bool {
	last := -1
	for d, have := range st.drafts {
		if len(have.FilesModified) > 0 && slices.Max(have.from) < at && (last < 0 || slices.Max(have.from) > slices.Max(st.drafts[last].from)) {
			last = d
		}
	}
	if last < 0 {
		return false
	}
	d := &st.drafts[last]
	subject := strings.TrimPrefix(o.Title, "Committed: ")
	d.Facts = append(d.Facts[:min(len(d.Facts), maxFacts-1)], "committed as "+quote(subject, 160))
	d.from = append(d.from, at)
	st.used[at] = true
	return true
}

// answered tells a search whose result was opened or changed in the same
// question: the note on that says more.
func (st *story) answered(o Observation) bool {
	for _, d := range st.drafts {
		for _, f := range o.FilesRead {
			if contains(d.FilesRead, f) || contains(d.FilesModified, f) {
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

// words writes on prompts and messages. A cause that was found explains the
// fix of the same question, if there is one.
func (st *story) words() {
	for i := range st.steps {
		s := &st.steps[i]
		if s.kind != kindPrompt && s.kind != kindMessage {
			continue
		}
		decisions, insights := noteWords(s)
		for _, o := range decisions {
			if !st.said(o) {
				st.put(o, i)
			}
		}
		for _, o := range insights {
			if fix := st.explained(o); fix != nil {
				fix.Title = "Fixed " + fix.fixed + ": " + lowerFirst(o.Title)
				fix.Narrative += " " + o.Narrative
				fix.from = append(fix.from, i)
				continue
			}
			st.put(o, i)
		}
	}
}

// explained finds the fix whose cause an insight tells: they name the same
// things.
func (st *story) explained(o Observation) *draft {
	for i := range st.drafts {
		d := &st.drafts[i]
		if d.fixed == "" {
			continue
		}
		have := d.Title + " " + d.Narrative + " " + strings.Join(d.Facts, " ")
		named, hits := inCode(o.Narrative), 0
		for _, name := range named {
			if strings.Contains(have, name) {
				hits++
			}
		}
		if hits > 0 && hits*2 >= len(named) || len(named) == 0 && overlap(have, o.Narrative) > 0.35 {
			return d
		}
	}
	return nil
}

func lowerFirst(s string) string {
	for _, article := range []string{"The ", "A ", "An ", "It ", "This ", "That "} {
		if strings.HasPrefix(s, article) {
			return strings.ToLower(s[:1]) + s[1:]
		}
	}
	return s
}

// inCode returns what a text has in backticks.
func inCode(text string) []string {
	var out []string
	for i, part := range strings.Split(text, "`") {
		if i%2 == 1 {
			out = add(out, strings.Trim(part, "()"))
		}
	}
	return out
}

// said tells a decision that another note of the question has already.
func (st *story) said(o Observation) bool {
	for _, d := range st.drafts {
		if d.Type == typeDecision && overlap(d.Title+" "+d.Narrative, o.Title) > 0.7 {
			return true
		}
	}
	return false
}

// overlap is the share of the long words of b that are in a.
func overlap(a, b string) float64 {
	have := map[string]bool{}
	for _, w := range strings.Fields(strings.ToLower(a)) {
		have[strings.Trim(w, "`.,:;()")] = true
	}
	n, hit := 0, 0
	for _, w := range strings.Fields(strings.ToLower(b)) {
		if w = strings.Trim(w, "`.,:;()"); len(w) > 3 {
			n++
			if have[w] {
				hit++
			}
		}
	}
	if n == 0 {
		return 0
	}
	return float64(hit) / float64(n)
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
