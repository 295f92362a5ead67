package llm

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// shell is a Bash call made readable.
type shell struct {
	cmds []command
	cmd  command // the one it was about
	desc string
	fail failure
	bad  bool
	out  string
}

func shellOf(s *step) shell {
	var sh shell
	sh.cmds = parse(s.in.get("command", "cmd", "script").text())
	sh.cmd = telling(sh.cmds)
	sh.desc = oneLine(s.in.get("description").str())
	sh.out = outputOf(s)
	sh.fail, sh.bad = failureOf(s, sh.cmd)
	// The output of a grep for errors, or of a listing, is no error.
	if sh.bad && sh.fail.exit <= 1 && !sh.fail.stopped && isSearch(sh.cmd) && sh.fail.message == "" {
		sh.bad = false
	}
	return sh
}

func isSearch(c command) bool {
	switch c.prog() {
	case "grep", "rg", "ag", "find", "diff", "test", "[", "which", "pgrep", "ls", "cat":
		return true
	}
	return c.verb() == "git grep" || c.verb() == "git diff"
}

// name is the command as a note calls it, without the program's folder.
func (sh shell) name() string {
	raw := oneLine(sh.cmd.raw)
	if prog, rest, _ := strings.Cut(raw, " "); strings.HasPrefix(prog, "/") {
		raw = strings.TrimSpace(prog[strings.LastIndexByte(prog, '/')+1:] + " " + rest)
	}
	return clip(raw, 60)
}

// noteFailure says what failed and with what.
func noteFailure(sh shell) Observation {
	f := sh.fail
	o := Observation{Type: typeDiscovery, Concepts: []string{gotcha}}
	what := strings.TrimPrefix(strings.TrimPrefix(f.message, sh.cmd.prog()+": "), "error: ")
	if f.meant != "" {
		what += " (" + f.meant + ")"
	}
	switch {
	case f.stopped && what == "":
		what = "interrupted"
	case len(f.tests) > 0 && what != "":
		what = list(f.tests, 1) + ": " + what
	case len(f.tests) > 0:
		what = list(f.tests, 3)
	case f.compile && f.where != "":
		what = f.where + ": " + what
	case what == "" && f.exit != 0:
		what = fmt.Sprintf("exit code %d", f.exit)
	}
	o.Title = first(nonEmpty(sh.name()), "a command") + " fails: " + what
	if f.where != "" && !f.compile {
		o.Subtitle = "at " + f.where
	}
	// The title has the first line; what the program said next often helps.
	if len(f.tests) == 0 && len(f.errors) > 1 && !f.compile {
		o.Narrative = f.errors[1].quoted(400) + "."
	}
	o.Facts = failureFacts(f)
	for _, m := range []string{f.where} {
		if file, _, ok := strings.Cut(m, ":"); ok && strings.Contains(file, "/") {
			o.FilesRead = add(o.FilesRead, strings.TrimPrefix(file, "./"))
		}
	}
	return o
}

func failureFacts(f failure) []string {
	var facts []string
	if len(f.tests) > 0 {
		facts = append(facts, "fails: "+quoteAll(f.tests, 6))
	}
	if f.meant != "" {
		facts = append(facts, "the test says: "+quote(f.meant, 200))
	}
	for _, e := range f.errors[:min(6, len(f.errors))] {
		facts = append(facts, e.quoted(220))
	}
	if len(f.errors) == 0 && f.message != "" {
		facts = append(facts, quote(f.message, 220))
	}
	if len(f.packages) > 1 {
		facts = append(facts, "failing packages: "+quoteAll(f.packages, 5))
	}
	if f.race {
		facts = add(facts, "the race detector reported a data race")
	}
	if f.exit > 1 {
		facts = append(facts, fmt.Sprintf("exit code %d", f.exit))
	}
	return facts
}

var (
	benchLine = regexp.MustCompile(`^(Benchmark\S+?)(?:-\d+)?\s+\d+\s+([\d.]+ ns/op.*)$`)
	committed = regexp.MustCompile(`^\[([\w./-]+|detached HEAD)(?: \([^)]*\))? ([0-9a-f]{7,40})\] (.+)$`)
	filesStat = regexp.MustCompile(`\d+ files? changed[^\n]*`)
	countFlag = regexp.MustCompile(`-(?:test\.)?count[= ](\d+)`)
	measured  = regexp.MustCompile(`(?i)\d\s?(?:ms|µs|us|ns|s|sec|seconds|kb|mb|gb|kib|mib|gib|bytes|rows?|msgs?|jobs?|%|x)\b|\d(?:/s|k/s)|time:|total|p50|p99`)
	verdict   = regexp.MustCompile(`(?i)^\s*(?:execution time|total|slowest|fastest|result|real|elapsed)\b|\d+ failed\b`)
	ruler     = regexp.MustCompile(`^[\s|+=_.-]*[-=+]{3,}[\s|+=_.-]*$`)
	rowCount  = regexp.MustCompile(`^\(\d+ rows?\)$`)
	okPackage = regexp.MustCompile(`(?m)^ok\s+(\S+)\s+([\d.]+s|\(cached\))`)
	anyDigit  = regexp.MustCompile(`\d`)
	anyLetter = regexp.MustCompile(`[A-Za-z]`)
)

// noteShell writes on a command that worked. ok is false when there is nothing
// to say.
func noteShell(sh shell) (Observation, bool) {
	switch {
	case sh.cmd.raw == "":
		return Observation{}, false
	case hasVerb(sh.cmds, "git commit"):
		return noteCommit(sh)
	case strings.Contains(sh.out, "ns/op"):
		return noteBench(sh)
	case sh.cmd.isTest():
		return noteRepeated(sh)
	case sh.cmd.isIdle() || isSearch(sh.cmd):
		return Observation{}, false
	}
	told, best := tellingLines(sh.out)
	if all := strings.Join(told, " "); !anyDigit.MatchString(all) || !anyLetter.MatchString(all) || best == "" && len(told) > 3 {
		return Observation{}, false
	}
	if best == "" {
		best = told[max(0, slices.IndexFunc(told, anyLetter.MatchString))]
	}
	o := Observation{Type: typeDiscovery, Concepts: []string{howItWorks}}
	o.Title = first(nonEmpty(sh.desc), sh.name()) + ": " + unstop(best)
	if sh.desc != "" {
		o.Subtitle = clip(oneLine(sh.cmd.raw), maxSubtitle)
	}
	for _, l := range told {
		o.Facts = append(o.Facts, quote(l, 220))
	}
	return o, true
}

// noteFigure keeps a figure that was asked for with a word on what it is: a
// size, a count.
func noteFigure(sh shell) (Observation, bool) {
	out := strings.TrimSpace(sh.out)
	if sh.desc == "" || len(out) > 24 || strings.Trim(out, "0123456789.,%") != "" || !anyDigit.MatchString(out) {
		return Observation{}, false
	}
	figure := unstop(sh.desc) + ": " + out
	return Observation{
		Type: typeDiscovery, Title: figure, Subtitle: clip(oneLine(sh.cmd.raw), maxSubtitle), Facts: []string{figure}, Concepts: []string{howItWorks},
	}, true
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func hasVerb(cmds []command, verb string) bool {
	return slices.ContainsFunc(cmds, func(c command) bool { return c.verb() == verb })
}

func noteCommit(sh shell) (Observation, bool) {
	for _, l := range lines(sh.out) {
		m := committed.FindStringSubmatch(strings.TrimSpace(l))
		if m == nil {
			continue
		}
		o := Observation{Type: commitType(m[3]), Title: "Committed: " + m[3], Concepts: []string{whatChanged}}
		o.Facts = []string{"commit " + quote(m[2], 40) + " on " + quote(m[1], 60)}
		if stat := filesStat.FindString(sh.out); stat != "" {
			o.Facts = append(o.Facts, quote(stat, 120))
		}
		return o, true
	}
	return Observation{}, false
}

var (
	fixes    = regexp.MustCompile(`(?i)\b(?:fix(?:e[sd])?|bug|flaky|no longer)\b`)
	adds     = regexp.MustCompile(`(?i)\b(?:adds?|feat|new|introduces?)\b`)
	reshapes = regexp.MustCompile(`(?i)\b(?:refactor|renamed?s?|moved? \w+ to|split|simplify|tidy)\b`)
)

func commitType(subject string) string {
	switch {
	case fixes.MatchString(subject):
		return typeBugfix
	case reshapes.MatchString(subject):
		return typeRefactor
	case adds.MatchString(subject):
		return typeFeature
	}
	return typeChange
}

func noteBench(sh shell) (Observation, bool) {
	o := Observation{Type: typeDiscovery, Concepts: []string{tradeOff}}
	for _, l := range lines(sh.out) {
		if m := benchLine.FindStringSubmatch(strings.TrimSpace(l)); m != nil && len(o.Facts) < maxFacts {
			figure, _, _ := strings.Cut(oneLine(m[2]), " ns/op")
			if len(o.Facts) < 2 {
				o.Title += ", " + strings.TrimPrefix(m[1], "Benchmark") + " " + figure + " ns/op"
			}
			o.Facts = append(o.Facts, quote(oneLine(l), 220))
		}
	}
	if len(o.Facts) == 0 {
		return o, false
	}
	o.Title = "Measured" + o.Title[1:]
	o.Subtitle = clip(oneLine(sh.cmd.raw), maxSubtitle)
	return o, true
}

// noteRepeated keeps a passing test run only when it proves more than one pass
// does: many repetitions.
func noteRepeated(sh shell) (Observation, bool) {
	m := countFlag.FindStringSubmatch(sh.cmd.raw)
	if m == nil {
		return Observation{}, false
	}
	if n, _ := strconv.Atoi(m[1]); n < 10 {
		return Observation{}, false
	}
	ok := okPackage.FindStringSubmatch(sh.out)
	if ok == nil {
		return Observation{}, false
	}
	return Observation{
		Type: typeDiscovery, Title: "No failure in " + m[1] + " runs of " + sh.name(), Concepts: []string{problemSolution},
		Facts: []string{quote(oneLine(ok[0]), 200)},
	}, true
}

// tellingLines picks the output lines worth quoting: what was measured, then
// the first ones, in the order printed, without rulers and table headings. The
// best of them is empty when none stands out.
func tellingLines(out string) (told []string, best string) {
	all := lines(out)
	all = all[:min(len(all), maxScan)]
	type scored struct{ at, score int }
	var cand []scored
	for i, l := range all {
		t := strings.TrimSpace(l)
		if len(t) < 3 || ruler.MatchString(t) || rowCount.MatchString(t) || strings.Trim(t, "{}[](),|") == "" {
			continue
		}
		if i+1 < len(all) && ruler.MatchString(all[i+1]) {
			continue
		}
		score := 0
		if measured.MatchString(t) {
			score += 2
		}
		if verdict.MatchString(t) {
			score += 3
		}
		if isGeneric(t) || strings.Contains(strings.ToLower(t), "warn") {
			score += 3
		}
		if len(cand) == 0 {
			score++
		}
		cand = append(cand, scored{i, score})
	}
	slices.SortStableFunc(cand, func(a, b scored) int { return b.score - a.score })
	cand = cand[:min(len(cand), 5)]
	if len(cand) == 0 {
		return nil, ""
	}
	if cand[0].score > 2 {
		best = oneLine(all[cand[0].at])
	}
	slices.SortFunc(cand, func(a, b scored) int { return a.at - b.at })
	for _, c := range cand {
		told = add(told, oneLine(all[c.at]))
	}
	return told, best
}
