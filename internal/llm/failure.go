package llm

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// failure is what went wrong in a command.
type failure struct {
	exit     int       // 0 when unknown
	tests    []string  // names of the tests that failed
	message  string    // the first thing the output says about why
	where    string    // file:line of the message
	errors   []printed // all error lines, the first one included
	packages []string
	meant    string // the test's own words for it
	race     bool
	compile  bool // it did not build
	stopped  bool // interrupted
}

// printed is an error line, with its place if it had one.
type printed struct {
	where, text string
	apart       bool // other lines stood between the two
}

// quoted gives the line as it was printed.
func (p printed) quoted(n int) string {
	switch {
	case p.where == "":
		return quote(p.text, n)
	case p.apart:
		return quote(p.where, 80) + ": " + quote(p.text, n-len(p.where)-8)
	}
	return quote(p.where+": "+p.text, n)
}

// isGeneric reports whether a line looks like an error of whatever program.
func isGeneric(l string) bool {
	return (strings.ContainsAny(l, ":![") || strings.Contains(strings.ToLower(l), "as root")) && generic.MatchString(l)
}

var (
	exitCode    = regexp.MustCompile(`(?i)exit(?:ed)?(?: with)?(?: non-zero)?(?: status)?(?: code)?:? (\d{1,3})\b`)
	goFail      = having("--- FAIL: ", `^\s*--- FAIL: (\S+)`)
	goFailPkg   = having("FAIL", `^FAIL\s+(\S+/\S+)`)
	goTestLine  = having("_test.go:", `^\s+(\w+_test\.go:\d+): ?(.*)$`)
	compileLine = having(": ", `^(?:vet: )?((?:\./)?[\w./-]+\.\w+:\d+(?::\d+)?): (.+)$`)
	tscLine     = having(": error TS", `^([\w./-]+\.tsx?\(\d+,\d+\)): (error TS\d+: .+)$`)
	pyFail      = having("FAILED ", `^FAILED (\S+?)(?: - (.+))?$`)
	pyError     = having("E", `^E\s{2,}(\S.*)$`)
	jsFail      = regexp.MustCompile(`^\s*[●✕✗×] (.+?)(?: \(\d+ ?ms\))?$`)
	rustPanic   = having(" panicked at ", `^thread '.*' (?:\(\d+\) )?panicked at (\S+?:\d+)(?::\d+)?:$`)
	mavenError  = having("[ERROR]", `^\[ERROR\] +(\S+:\d+) (.+)$`)
	kotlinError = having("e: ", `^e: (\S+:\d+:\d+):? (.+)$`)
	tapFail     = having("not ok ", `^not ok \d+ -? ?(.+)$`)
	cargoFail   = having(" ... FAILED", `^test (\S+) \.\.\. FAILED`)
	testifyErr  = having("Error:", `^\s+Error:\s+(.*)$`)
	testifyEnd  = regexp.MustCompile(`^\s+(?:Test|Messages|Error Trace):\s+(.*)$`)
	testifySays = having("Messages:", `^\s+Messages:\s+(\S.*)$`)
	hint        = having(":", `(?i)^(?:\S+: )?(?:hint|detail|help|note):`)
	raceFrame   = regexp.MustCompile(`^\s+(/\S+\.go:\d+)`)
	generic     = regexp.MustCompile(`(?i)^(?:\S+: )*(?:error|fatal|panic|traceback|exception|abort(?:ed)?|failed|failure)\b.{0,3}[:!\[]|: (?:command not found|No such file or directory|Permission denied|cannot |can't |not found|connection refused)|\b(?:ERROR|FATAL|PANIC): |cannot be run as root`)
)

// failureOf reads a command's result. ok is false when nothing failed.
func failureOf(s *step, cmd command) (failure, bool) {
	var f failure
	text := s.err
	failed := s.err != ""
	stderr := s.out.get("stderr").str()
	if !failed {
		text = outputOf(s)
	}
	for _, name := range []string{"exit_code", "exitCode", "returnCode", "return_code", "status", "code"} {
		if n, ok := s.out.get(name).num(); ok && n != 0 && n < 256 {
			f.exit, failed = n, true
			break
		}
	}
	if s.out.get("interrupted").isTrue() || s.root.get("is_interrupt", "interrupted").isTrue() {
		f.stopped, failed = true, true
	}
	if l := firstLine(text); s.err != "" || strings.HasPrefix(l, "e") || strings.HasPrefix(l, "E") {
		if m := exitCode.FindStringSubmatch(l); m != nil {
			f.exit, _ = strconv.Atoi(m[1])
			failed = failed || f.exit != 0
			text = strings.Replace(text, l, "", 1)
		}
	}
	f.read(text)
	// Behind a pipe a test run's own exit code is lost; its output is not.
	if cmd.isTest() && (len(f.tests) > 0 || len(f.packages) > 0) {
		failed = true
	}
	if (cmd.verb() == "go build" || cmd.verb() == "go vet" || cmd.isTest()) && f.compile {
		failed = true
	}
	if !failed && stderr != "" && strings.TrimSpace(s.out.get("stdout").str()) == "" && isGeneric(firstLine(stderr)) {
		failed = true
	}
	if !failed {
		return failure{}, false
	}
	if f.message == "" && len(f.tests) == 0 {
		f.message = fallback(text)
	}
	return f, true
}

// outputOf is all a command printed.
func outputOf(s *step) string {
	if o := s.out.str(); o != "" {
		return o
	}
	out, errs := s.out.get("stdout", "output").text(), s.out.get("stderr").text()
	if out == "" && errs == "" {
		return s.out.text()
	}
	return strings.Trim(out+"\n"+errs, "\n")
}

// read finds test names, messages and places in the output.
func (f *failure) read(text string) {
	all := lines(text)
	if len(all) > maxScan {
		all = append(append([]string{}, all[:maxScan/2]...), all[len(all)-maxScan/2:]...)
	}
	say := func(where, message string, apart bool) {
		message = oneLine(message)
		if message == "" || len(f.errors) >= 8 {
			return
		}
		if f.message == "" {
			f.message, f.where = message, where
		}
		if p := (printed{where, message, apart}); !slices.Contains(f.errors, p) {
			f.errors = append(f.errors, p)
		}
	}
	frames := 0
	pending := "" // the place of a testify report whose Error line is to come
	for i := 0; i < len(all); i++ {
		l := all[i]
		if len(l) > 2000 {
			l = l[:2000]
		}
		switch {
		case goFail.MatchString(l):
			f.tests = add(f.tests, goFail.FindStringSubmatch(l)[1])
		case goFailPkg.MatchString(l):
			f.packages = add(f.packages, goFailPkg.FindStringSubmatch(l)[1])
		case testifyErr.MatchString(l):
			words := []string{testifyErr.FindStringSubmatch(l)[1]}
			for i+1 < len(all) && len(words) < 6 && !testifyEnd.MatchString(all[i+1]) && strings.TrimSpace(all[i+1]) != "" {
				i++
				words = append(words, all[i])
			}
			say(pending, reword(words), true)
			pending = ""
		case testifySays.MatchString(l):
			if said := oneLine(testifySays.FindStringSubmatch(l)[1]); f.meant == "" && strings.Trim(said, "\"'`") != "" {
				f.meant = said
			}
		case f.race && frames < 4 && raceFrame.MatchString(l) && !strings.Contains(l, "/go/src/"):
			frames++
			if i > 0 {
				say("", all[i-1]+" "+raceFrame.FindStringSubmatch(l)[1], false)
			}
		case len(f.errors) > 0 && hint.MatchString(l):
			say("", l, false)
		case goTestLine.MatchString(l):
			m := goTestLine.FindStringSubmatch(l)
			if strings.TrimSpace(m[2]) == "" {
				pending = m[1]
				continue
			}
			say(m[1], m[2], false)
		case strings.Contains(l, "WARNING: DATA RACE"):
			f.race = true
			say("", l, false)
		case strings.HasPrefix(l, "panic: "):
			say("", l, false)
		case pyFail.MatchString(l):
			m := pyFail.FindStringSubmatch(l)
			name := m[1][strings.LastIndex(m[1], "::")+1:]
			f.tests = add(f.tests, strings.TrimPrefix(name, ":"))
			say("", m[2], false)
		case pyError.MatchString(l):
			say("", pyError.FindStringSubmatch(l)[1], false)
		case rustPanic.MatchString(l):
			var words []string
			for i+1 < len(all) && len(words) < 3 && strings.TrimSpace(all[i+1]) != "" && (len(words) == 0 || strings.HasPrefix(all[i+1], " ")) {
				i++
				words = append(words, all[i])
			}
			say(rustPanic.FindStringSubmatch(l)[1], strings.Join(words, " "), true)
		case mavenError.MatchString(l):
			m := mavenError.FindStringSubmatch(l)
			say(m[1], m[2], true)
		case kotlinError.MatchString(l):
			m := kotlinError.FindStringSubmatch(l)
			f.compile = true
			say(m[1], m[2], true)
		case cargoFail.MatchString(l):
			f.tests = add(f.tests, cargoFail.FindStringSubmatch(l)[1])
		case tapFail.MatchString(l):
			f.tests = add(f.tests, tapFail.FindStringSubmatch(l)[1])
		case strings.ContainsAny(l, "●✕✗×") && jsFail.MatchString(l):
			f.tests = add(f.tests, jsFail.FindStringSubmatch(l)[1])
		case tscLine.MatchString(l):
			m := tscLine.FindStringSubmatch(l)
			f.compile = true
			say(m[1], m[2], false)
		case compileLine.MatchString(l) && (!strings.Contains(l, "_test.go:") || strings.Count(l, ":") > 2):
			m := compileLine.FindStringSubmatch(l)
			f.compile = f.compile || strings.Count(m[1], ":") == 2
			say(m[1], m[2], false)
		case isGeneric(l) && l != "FAIL":
			say("", l, false)
		}
	}
	// A parent fails because its subtest did: name the subtest only.
	var leaves []string
	for _, t := range f.tests {
		parent := false
		for _, other := range f.tests {
			parent = parent || strings.HasPrefix(other, t+"/")
		}
		if !parent {
			leaves = append(leaves, t)
		}
	}
	f.tests = leaves
}

// reword joins the lines of a testify report and drops its opening phrase when
// the next line says it better.
func reword(words []string) string {
	if len(words) > 1 {
		switch strings.TrimSpace(words[0]) {
		case "Received unexpected error:", "Not equal:", "Condition never satisfied":
			if strings.TrimSpace(words[0]) != "Condition never satisfied" {
				words = words[1:]
			}
		}
	}
	return oneLine(strings.Join(words, " "))
}

// fallback is the last thing printed: what a program says before it gives up.
func fallback(text string) string {
	all := lines(text)
	for _, l := range slices.Backward(all) {
		if l = strings.TrimSpace(l); l != "" && l != "FAIL" {
			return oneLine(l)
		}
	}
	return ""
}
