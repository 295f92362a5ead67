package llm

import (
	"regexp"
	"slices"
	"strings"
)

// command is what a shell line really ran.
type command struct {
	raw   string   // the telling part, as written: no cd, no redirects, no pipes to tail
	words []string // its words, without environment and wrappers
}

func (c command) prog() string {
	if len(c.words) == 0 {
		return ""
	}
	w := c.words[0]
	return w[strings.LastIndexByte(w, '/')+1:]
}

// verb is the program with its subcommand: "go test", "git commit".
func (c command) verb() string {
	if len(c.words) > 1 {
		switch c.prog() {
		case "go", "git", "npm", "pnpm", "yarn", "cargo", "docker", "kubectl", "nats", "task", "make", "sqlc", "bun", "uv", "poetry":
			for _, w := range c.words[1:] {
				if !strings.HasPrefix(w, "-") {
					return c.prog() + " " + w
				}
			}
		}
	}
	return c.prog()
}

var (
	envAssign = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)
	redirect  = regexp.MustCompile(`\s*(?:\d?>&\d|&?\d?>>?\s*\S+|<\s*\S+)\s*$`)
)

// parse splits a shell line into the commands it runs, each with the part of
// its pipeline that does the work. It knows quotes, not the whole shell.
func parse(line string) []command {
	if len(line) > 8192 {
		line = line[:8192]
	}
	var out []command
	for _, part := range split(line, true) {
		pipe := split(part, false)
		if len(pipe) == 0 {
			continue
		}
		raw := strings.TrimSpace(pipe[0])
		for strings.ContainsAny(raw, "<>") {
			trimmed := redirect.ReplaceAllString(raw, "")
			if trimmed == raw {
				break
			}
			raw = trimmed
		}
		c := command{raw: raw, words: shellWords(raw)}
		for len(c.words) > 0 {
			w := c.words[0]
			switch {
			case w == "git" && len(c.words) > 3 && c.words[1] == "-C":
				c.words = append([]string{"git"}, c.words[3:]...)
			case envAssign.MatchString(w), w == "sudo", w == "nice", w == "time", w == "env", w == "nohup", w == "exec", w == "then", w == "do", w == "!":
				c.drop(1)
				continue
			case w == "timeout" && len(c.words) > 1:
				c.drop(2)
				continue
			}
			break
		}
		c.unwrap()
		if len(c.words) > 0 {
			out = append(out, c)
		}
	}
	return out
}

// unwrap looks through the programs that only run another one.
func (c *command) unwrap() {
	wrapped := 0
	switch c.verb() {
	case "go tool", "uv run", "poetry run", "bundle exec", "npm exec":
		wrapped = 2
	default:
		if c.prog() == "npx" || c.prog() == "bunx" {
			wrapped = 1
		}
	}
	// go's own tools keep their name: "go tool pprof".
	for i := wrapped; wrapped > 0 && i < len(c.words); i++ {
		if !strings.HasPrefix(c.words[i], "-") && c.words[i] != "tool" && c.words[i] != "run" && c.words[i] != "exec" {
			c.words = c.words[i:]
			return
		}
	}
}

// drop forgets the first n words, in the written form too.
func (c *command) drop(n int) {
	for range n {
		w := c.words[0]
		c.words = c.words[1:]
		if i := strings.Index(c.raw, w); i >= 0 {
			c.raw = strings.TrimSpace(c.raw[i+len(w):])
		}
	}
}

// split cuts at the shell's separators outside quotes: at && || ; and line
// ends, or at pipes.
func split(line string, commands bool) []string {
	var out []string
	var quote byte
	start := 0
	cut := func(i, width int) {
		if p := strings.TrimSpace(line[start:i]); p != "" {
			out = append(out, p)
		}
		start = i + width
	}
	for i := 0; i < len(line); i++ {
		ch := line[i]
		next := byte(0)
		if i+1 < len(line) {
			next = line[i+1]
		}
		switch {
		case ch == '\\':
			i++
		case quote != 0:
			if ch == quote {
				quote = 0
			}
		case ch == '\'' || ch == '"' || ch == '`':
			quote = ch
		case ch == '<' && next == '<':
			// A here-document is the command's input, not more commands.
			if commands {
				cut(i, len(line)-i)
				return out
			}
		case commands && (ch == '&' && next == '&' || ch == '|' && next == '|'):
			cut(i, 2)
			i++
		case commands && (ch == ';' || ch == '\n'):
			cut(i, 1)
		case !commands && ch == '|' && next != '|':
			cut(i, 1)
		}
	}
	cut(len(line), 0)
	return out
}

func shellWords(s string) []string {
	var out []string
	var b strings.Builder
	var quote byte
	open := false
	for i := 0; i < len(s); i++ {
		ch := s[i]
		switch {
		case quote != 0 && ch == quote:
			quote = 0
		case quote != 0:
			b.WriteByte(ch)
		case ch == '\'' || ch == '"':
			quote, open = ch, true
		case ch == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case ch == ' ' || ch == '\t' || ch == '\n':
			if b.Len() > 0 || open {
				out = append(out, b.String())
			}
			b.Reset()
			open = false
		default:
			b.WriteByte(ch)
		}
	}
	if b.Len() > 0 || open {
		out = append(out, b.String())
	}
	return out
}

// idle are programs whose success says nothing that would be worth a note.
var idle = map[string]bool{
	"": true, "cd": true, "ls": true, "pwd": true, "echo": true, "printf": true, "true": true, "mkdir": true, "touch": true, "cp": true,
	"mv": true, "rm": true, "chmod": true, "chown": true, "sleep": true, "date": true, "which": true, "whoami": true, "env": true,
	"export": true, "set": true, "source": true, ".": true, "tree": true, "find": true, "head": true, "tail": true, "wc": true, "sort": true,
	"uniq": true, "kill": true, "ps": true, "clear": true, "history": true, "type": true, "test": true, "[": true, "gofmt": true,
	"gofumpt": true, "goimports": true, "wait": true, "exit": true, "diff": true, "tar": true, "ln": true, "basename": true, "dirname": true,
	"for": true, "while": true, "if": true, "done": true, "fi": true, "tee": true, "xargs": true, "jobs": true, "file": true, "stat": true, "du": true,
}

var idleVerbs = map[string]bool{
	"git status": true, "git diff": true, "git log": true, "git show": true, "git add": true, "git branch": true, "git checkout": true,
	"git stash": true, "git fetch": true, "git push": true, "git pull": true, "git rev-parse": true, "git switch": true, "git restore": true,
	"go build": true, "go vet": true, "go mod": true, "go get": true, "go env": true, "go fmt": true, "go generate": true, "go version": true,
	"go install": true, "go doc": true, "npm install": true, "npm ci": true, "cargo build": true, "cargo check": true, "cargo fmt": true,
	"sqlc generate": true, "docker ps": true, "docker pull": true, "docker build": true,
}

func (c command) isIdle() bool { return idle[c.prog()] || idleVerbs[c.verb()] }

func (c command) isTest() bool {
	switch c.verb() {
	case "go test", "cargo test", "npm test", "yarn test", "pnpm test", "bun test", "task test", "make test", "pytest", "jest", "vitest", "tox", "gotestsum":
		return true
	}
	return slices.Contains(c.words, "pytest") || slices.Contains(c.words, "jest") || slices.Contains(c.words, "vitest") || slices.Contains(c.words, "gotestsum")
}

// telling returns the command that the line was about: the last one that is
// not mere housekeeping, or the last.
func telling(cmds []command) command {
	for _, good := range []func(command) bool{
		func(c command) bool { return !c.isIdle() },
		func(c command) bool { return !idle[c.prog()] },
		func(c command) bool { return c.prog() != "echo" && c.prog() != "cd" },
	} {
		for _, c := range slices.Backward(cmds) {
			if good(c) {
				return c
			}
		}
	}
	if len(cmds) > 0 {
		return cmds[len(cmds)-1]
	}
	return command{}
}
