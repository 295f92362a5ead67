// Command record made the sessions in ../sessions: it does over again, step by
// step, what a commit of this repository did, with the real tools in a real
// checkout, and writes what an agent's hooks would report of each step: what
// was searched and read, the edits as the commit has them, the tests before
// and after, the commit. Outputs are what the tools printed. The prompt and
// the last message are the commit's own words, since nobody kept the talk.
//
// A script of commands does the same for sessions that change nothing: each
// line is a command, or starts with "prompt:" or "done:".
//
//	go run ./internal/llm/testdata/record -repo . -commit 708c448 -tests ./events -run TestNewID >session.jsonl
//	go run ./internal/llm/testdata/record -repo . -commit main -script what.txt >session.jsonl
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// home is what the checkout is called in the events.
const home = "/home/dev/obs"

var (
	repo   = flag.String("repo", ".", "the repository")
	commit = flag.String("commit", "", "what to do over again")
	tests  = flag.String("tests", "", "the packages to test")
	run    = flag.String("run", "", "the tests to run; empty: all of the packages'")
	script = flag.String("script", "", "commands instead of a commit's changes")
)

type m = map[string]any

func main() {
	flag.Parse()
	dir, err := os.MkdirTemp("", "record-")
	check(err)
	defer os.RemoveAll(dir)
	at := *commit
	if *script == "" {
		at += "^"
	}
	must(exec.Command("git", "-C", *repo, "worktree", "add", "--detach", dir, at))
	defer func() { must(exec.Command("git", "-C", *repo, "worktree", "remove", "--force", dir)) }()
	r := &recorder{dir: dir}
	if *script != "" {
		r.play(*script)
		return
	}
	r.replay(*commit)
}

type recorder struct {
	dir string
	n   int
}

func (r *recorder) tell(hook, typ string, payload m) {
	payload["cwd"] = home
	if _, ok := payload["tool_name"]; ok {
		r.n++
		payload["tool_use_id"] = fmt.Sprintf("toolu_%04d", r.n)
	}
	b, err := json.Marshal(m{"hook": hook, "eventType": typ, "occurredAtEpoch": time.Now().UnixMilli(), "payload": payload})
	check(err)
	fmt.Println(strings.ReplaceAll(string(b), r.dir, home))
}

func (r *recorder) used(tool string, in, out any) {
	r.tell("PostToolUse", "tool_use", m{"tool_name": tool, "tool_input": in, "tool_response": out})
}

// bash runs a command in the checkout and reports what it printed.
func (r *recorder) bash(command, why string) {
	c := exec.Command("bash", "-c", command)
	c.Dir = r.dir
	c.Env = append(os.Environ(), "GIT_AUTHOR_NAME=dev", "GIT_AUTHOR_EMAIL=dev@example.com", "GIT_COMMITTER_NAME=dev", "GIT_COMMITTER_EMAIL=dev@example.com")
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	err := c.Run()
	in := m{"command": command, "description": why}
	clip := func(b bytes.Buffer) string {
		s := strings.TrimRight(b.String(), "\n")
		if len(s) > 30000 {
			s = s[:30000]
		}
		return s
	}
	if err != nil {
		r.tell("PostToolUseFailure", "tool_use", m{
			"tool_name": "Bash", "tool_input": in, "is_interrupt": false,
			"error": strings.TrimRight(fmt.Sprintf("Exit code %d\n%s\n%s", c.ProcessState.ExitCode(), clip(stdout), clip(stderr)), "\n"),
		})
		return
	}
	r.used("Bash", in, m{"stdout": clip(stdout), "stderr": clip(stderr), "interrupted": false, "isImage": false})
}

func (r *recorder) play(file string) {
	raw, err := os.ReadFile(file)
	check(err)
	for _, l := range strings.Split(strings.TrimSpace(string(raw)), "\n") {
		switch rest, prompt := strings.CutPrefix(l, "prompt:"); {
		case prompt:
			r.tell("UserPromptSubmit", "user_prompt", m{"prompt": strings.TrimSpace(rest)})
		case strings.HasPrefix(l, "done:"):
			r.tell("Stop", "assistant_message", m{"last_assistant_message": strings.TrimSpace(strings.TrimPrefix(l, "done:")), "stop_hook_active": false})
		case strings.HasPrefix(l, "read:"):
			r.read(strings.TrimSpace(strings.TrimPrefix(l, "read:")), 0, 0)
		case strings.TrimSpace(l) != "":
			command, why, _ := strings.Cut(l, "  # ")
			r.bash(command, why)
		}
	}
}

var (
	hunkHead = regexp.MustCompile(`^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@ ?(.*)$`)
	funcName = regexp.MustCompile(`func (?:\([^)]*\) )?(\w+)`)
)

func (r *recorder) replay(commit string) {
	message := strings.TrimSpace(must(exec.Command("git", "-C", *repo, "log", "-1", "--format=%B", commit)))
	r.tell("UserPromptSubmit", "user_prompt", m{"prompt": message})
	r.bash("git log --oneline -4", "Where we are")
	type file struct {
		name    string
		created bool
		hunks   []string
	}
	var code, test, prose []file
	for _, name := range strings.Fields(must(exec.Command("git", "-C", *repo, "diff", "--name-only", "--diff-filter=AM", commit+"^", commit))) {
		f := file{name: name, hunks: hunks(must(exec.Command("git", "-C", *repo, "diff", "-U3", commit+"^", commit, "--", name)))}
		_, err := os.Stat(filepath.Join(r.dir, name))
		f.created = err != nil
		switch {
		case strings.HasSuffix(name, "_test.go"):
			test = append(test, f)
		case strings.HasSuffix(name, ".go"):
			code = append(code, f)
		case strings.HasSuffix(name, ".md"):
			prose = append(prose, f)
		}
	}
	searched := map[string]bool{}
	for _, f := range code {
		for _, h := range f.hunks {
			if at := hunkHead.FindStringSubmatch(strings.SplitN(h, "\n", 2)[0]); at != nil {
				if name := funcName.FindStringSubmatch(at[5]); name != nil && !searched[name[1]] && len(searched) < 3 {
					searched[name[1]] = true
					r.grep(name[1])
				}
			}
		}
	}
	for _, f := range append(append([]file{}, code...), test...) {
		if !f.created {
			r.look(f.name, f.hunks)
		}
	}
	change := func(files []file) {
		for _, f := range files {
			if f.created {
				body := must(exec.Command("git", "-C", *repo, "show", commit+":"+f.name))
				r.write(f.name, body)
				continue
			}
			for _, h := range f.hunks {
				r.edit(f.name, h)
			}
			must(exec.Command("git", "-C", r.dir, "checkout", "-q", commit, "--", f.name)) // what hunks without context leave
		}
	}
	command := "go test " + *tests
	if *run != "" {
		command += " -run '" + *run + "'"
	}
	change(test)
	if len(test) > 0 && *tests != "" {
		r.bash(command, "See the test fail")
	}
	change(code)
	if *tests != "" {
		r.bash(command, "Run the tests")
	}
	change(prose)
	must(exec.Command("git", "-C", r.dir, "add", "-A"))
	subject, body, _ := strings.Cut(message, "\n")
	r.bash("git commit -m "+strconv.Quote(subject), "Commit")
	last := subject
	if body = strings.TrimSpace(body); body != "" {
		last += "\n\n" + body
	}
	r.tell("Stop", "assistant_message", m{"last_assistant_message": last, "stop_hook_active": false})
}

func hunks(diff string) []string {
	var out []string
	for _, l := range strings.SplitAfter(diff, "\n") {
		switch {
		case strings.HasPrefix(l, "@@ "):
			out = append(out, l)
		case len(out) > 0 && l != "" && !strings.HasPrefix(l, `\`):
			out[len(out)-1] += l
		}
	}
	return out
}

func (r *recorder) grep(name string) {
	c := exec.Command("bash", "-c", "grep -rnw --include=*.go "+name+" . | sed 's|^./||' | head -20")
	c.Dir = r.dir
	text := strings.TrimRight(must(c), "\n")
	r.used("Grep", m{"pattern": `\b` + name + `\b`, "glob": "*.go", "output_mode": "content", "-n": true, "head_limit": 20},
		m{"mode": "content", "numFiles": 0, "filenames": []string{}, "content": text, "numLines": strings.Count(text, "\n") + 1})
}

// look reads what an edit needs: all of a short file, the places of a long one.
func (r *recorder) look(name string, hunks []string) {
	raw, err := os.ReadFile(filepath.Join(r.dir, name))
	check(err)
	if strings.Count(string(raw), "\n") <= 250 || len(hunks) == 0 {
		r.read(name, 0, 0)
		return
	}
	for i, h := range hunks {
		at := hunkHead.FindStringSubmatch(strings.SplitN(h, "\n", 2)[0])
		if line, err := strconv.Atoi(at[1]); err == nil && i < 3 {
			r.read(name, max(1, line-30), 80)
		}
	}
}

func (r *recorder) read(name string, from, limit int) {
	raw, err := os.ReadFile(filepath.Join(r.dir, name))
	check(err)
	all := strings.Split(string(raw), "\n")
	in := m{"file_path": filepath.Join(r.dir, name)}
	text, start := all, 1
	if from > 0 {
		in["offset"], in["limit"] = from, limit
		start = min(from, len(all))
		text = all[start-1 : min(len(all), start-1+limit)]
	}
	r.used("Read", in, m{"type": "text", "file": m{
		"filePath": filepath.Join(r.dir, name), "content": strings.Join(text, "\n"), "numLines": len(text), "startLine": start, "totalLines": len(all),
	}})
}

func (r *recorder) write(name, body string) {
	path := filepath.Join(r.dir, name)
	check(os.MkdirAll(filepath.Dir(path), 0o755))
	check(os.WriteFile(path, []byte(body), 0o644))
	r.used("Write", m{"file_path": path, "content": body}, m{"type": "create", "filePath": path, "content": body, "structuredPatch": []any{}, "originalFile": nil})
}

// edit is one hunk of the commit, as an agent's edit reports it.
func (r *recorder) edit(name, hunk string) {
	lines := strings.Split(strings.TrimSuffix(hunk, "\n"), "\n")
	at := hunkHead.FindStringSubmatch(lines[0])
	lines = lines[1:]
	var before, after []string
	for _, l := range lines {
		if l == "" {
			l = " "
		}
		if l[0] != '+' {
			before = append(before, l[1:])
		}
		if l[0] != '-' {
			after = append(after, l[1:])
		}
	}
	path := filepath.Join(r.dir, name)
	raw, err := os.ReadFile(path)
	check(err)
	old, now := strings.Join(before, "\n"), strings.Join(after, "\n")
	check(os.WriteFile(path, []byte(strings.Replace(string(raw), old, now, 1)), 0o644))
	number := func(s string) int { n, _ := strconv.Atoi(s); return n }
	r.used("Edit", m{"file_path": path, "old_string": old, "new_string": now, "replace_all": false}, m{
		"filePath": path, "oldString": old, "newString": now, "userModified": false, "replaceAll": false,
		"structuredPatch": []m{{"oldStart": number(at[1]), "oldLines": len(before), "newStart": number(at[3]), "newLines": len(after), "lines": lines}},
	})
}

func must(c *exec.Cmd) string {
	out, err := c.CombinedOutput()
	if err != nil {
		log.Fatalf("%s: %v\n%s", strings.Join(c.Args, " "), err, out)
	}
	return string(out)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
