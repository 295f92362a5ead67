// The corpus of the retrieval benchmark: what the offline extractor writes of
// real sessions. These are the session of `obs demo`, and the work on this
// repository as its history has it: each commit is a turn, with the edits of
// its diff, the command and the answer of git, and its message as the agent's
// last one. Run it at the top of a clone with the whole history:
//
//	go run ./internal/search/testdata/corpus COMMIT > internal/search/testdata/observations.jsonl
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/seed-245eaa15/obs/internal/demo"
	"github.com/seed-245eaa15/obs/internal/llm"
)

const (
	pause    = 40 * time.Minute // between two commits, and it is another session
	maxHunks = 2                // of a file
	maxFiles = 3                // of a commit
)

func git(args ...string) string {
	out, err := exec.Command("git", args...).Output()
	if err != nil {
		log.Fatal(args, err)
	}
	return string(out)
}

type line struct {
	ID      string `json:"id"`
	Session string `json:"session"`
	At      int64  `json:"at"`
	Kind    string `json:"kind"`
	Note    note   `json:"note"`
}

type note struct {
	Title     string   `json:"title"`
	Subtitle  string   `json:"subtitle,omitempty"`
	Narrative string   `json:"narrative,omitempty"`
	Facts     []string `json:"facts,omitempty"`
	Concepts  []string `json:"concepts,omitempty"`
	Read      []string `json:"files_read,omitempty"`
	Modified  []string `json:"files_modified,omitempty"`
}

var (
	out = json.NewEncoder(os.Stdout)
	n   int
)

func write(session string, at time.Time, evs []llm.Event) {
	a, err := llm.NewOffline().Answer(context.Background(), llm.Question{Task: llm.TaskObserve, Events: evs})
	if err != nil {
		log.Fatal(err)
	}
	for _, o := range a.Observations {
		n++
		if err := out.Encode(line{fmt.Sprintf("o%03d", n), session, at.UnixMilli(), o.Type, note{
			o.Title, o.Subtitle, o.Narrative, o.Facts, o.Concepts, o.FilesRead, o.FilesModified,
		}}); err != nil {
			log.Fatal(err)
		}
	}
}

func event(kind string, at time.Time, payload map[string]any) llm.Event {
	payload["cwd"] = "/work/main"
	b, err := json.Marshal(payload)
	if err != nil {
		log.Fatal(err)
	}
	return llm.Event{ID: strconv.Itoa(int(at.UnixNano())), Type: kind, Source: "claude", At: at, Payload: b}
}

func tool(name string, at time.Time, in, response map[string]any) llm.Event {
	return event("tool_use", at, map[string]any{"tool_name": name, "tool_input": in, "tool_response": response})
}

func main() {
	out.SetEscapeHTML(false)
	s, err := demo.Session()
	if err != nil {
		log.Fatal(err)
	}
	var turn []llm.Event
	for i, e := range s.Events {
		at := time.UnixMilli(e.OccurredAtEpoch)
		turn = append(turn, llm.Event{ID: fmt.Sprint(i), Type: e.EventType, Source: "claude", At: at, Payload: e.Payload})
		if e.Hook == "Stop" {
			write("demo", at, turn)
			turn = nil
		}
	}
	session, last := 0, time.Time{}
	for hash := range strings.FieldsSeq(git("log", "--reverse", "--no-merges", "--format=%H", os.Args[1])) {
		head := strings.SplitN(git("show", "-s", "--format=%h%n%at%n%s%n%b", hash), "\n", 4)
		sec, _ := strconv.ParseInt(head[1], 10, 64)
		at := time.Unix(sec, 0)
		if at.Sub(last) > pause {
			session++
		}
		last = at
		write(fmt.Sprintf("s%d", session), at, commit(hash, head, at))
	}
}

func commit(hash string, head []string, at time.Time) []llm.Event {
	var evs []llm.Event
	files := 0
	for file := range strings.SplitSeq("\n"+git("show", "--format=", "-U1", hash), "\ndiff --git ") {
		_, path, ok := strings.Cut(strings.SplitN(file, "\n", 2)[0], " b/")
		_, hunks, found := strings.Cut(file, "\n@@ ")
		if !ok || !found || files == maxFiles || strings.Contains(path, "testdata") || strings.HasSuffix(path, ".sum") || strings.HasSuffix(path, ".sql.go") {
			continue
		}
		files++
		abs := "/work/main/" + path
		for i, h := range strings.Split(hunks, "\n@@ ") {
			if i == maxHunks {
				break
			}
			var before, after []string
			for _, l := range strings.Split(h, "\n")[1:] {
				switch {
				case strings.HasPrefix(l, "-"):
					before = append(before, l[1:])
				case strings.HasPrefix(l, "+"):
					after = append(after, l[1:])
				case strings.HasPrefix(l, " "):
					before, after = append(before, l[1:]), append(after, l[1:])
				}
			}
			at = at.Add(time.Millisecond)
			if strings.Contains(file, "\nnew file mode") {
				evs = append(evs, tool("Write", at, map[string]any{"file_path": abs, "content": strings.Join(after, "\n")}, map[string]any{"type": "create", "filePath": abs}))
			} else {
				evs = append(evs, tool("Edit", at, map[string]any{"file_path": abs, "old_string": strings.Join(before, "\n"), "new_string": strings.Join(after, "\n")}, map[string]any{"filePath": abs}))
			}
		}
	}
	stat := strings.Split(strings.TrimSpace(git("show", "--format=", "--shortstat", hash)), "\n")
	evs = append(evs, tool("Bash", at.Add(time.Second), map[string]any{"command": "git commit -m " + strconv.Quote(head[2])},
		map[string]any{"stdout": fmt.Sprintf("[main %s] %s\n %s", head[0], head[2], stat[len(stat)-1]), "stderr": "", "interrupted": false}))
	if body := strings.TrimSpace(head[3]); body != "" {
		evs = append(evs, event("assistant_message", at.Add(2*time.Second), map[string]any{"last_assistant_message": body}))
	}
	return evs
}
