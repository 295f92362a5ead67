package llm

import (
	"regexp"
	"slices"
	"strings"
)

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
	if o.Subtitle = f.meant; o.Subtitle == "" && !strings.Contains(f.message, `\n`) { // a text that was printed as a value is no headline
		o.Subtitle = f.message
	}
	o.Subtitle = clip(o.Subtitle, maxSubtitle)
	said := quote(f.message, 240)
	if len(f.errors) > 0 {
		said = f.errors[0].quoted(240)
	}
	if said != "``" {
		o.Narrative = failed.name() + " failed: " + said + ". " + why
	} else {
		o.Narrative = failed.name() + " failed. " + why
	}
	facts := failureFacts(f)
	facts = append(facts[:min(4, len(facts))], o.Facts...)
	o.Facts = slices.Concat(facts[:min(maxFacts-1, len(facts))], []string{ended(passed)})
	return o, fixed
}

// ended tells of a run that passed.
func ended(sh shell) string {
	fact := quote(sh.name(), 120) + " then passed"
	if ok := okPackage.FindString(sh.out); ok != "" {
		fact += ": " + quote(ok, 100)
	}
	return fact
}

var remark = regexp.MustCompile("^`(\\w+)`: (.+)$")
