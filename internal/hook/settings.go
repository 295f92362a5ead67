package hook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// installed are the hooks that [Install] puts in, in this order.
var installed = []struct {
	event   Event
	matcher string // "" where Claude Code knows none
}{
	{SessionStart, "startup|clear|compact"},
	{UserPromptSubmit, ""},
	{PostToolUse, "*"},
	{Stop, ""},
	{SessionEnd, ""},
}

// commandTimeout is when Claude Code ends a hook of ours, in seconds. It ends
// by itself long before.
const commandTimeout = 10

// hookGroup and hookCommand are a hook as Claude Code's settings have it.
type hookGroup struct {
	Matcher string        `json:"matcher,omitempty"`
	Hooks   []hookCommand `json:"hooks"`
}

type hookCommand struct {
	Type    string `json:"type"`
	Command string `json:"command"`
	Timeout int    `json:"timeout"`
}

// ErrSettings is about settings that are not what Claude Code's should be.
var ErrSettings = errors.New("not the settings of Claude Code")

// All are the hooks that report a session and those that read.
func All() []Event {
	var all []Event
	for _, h := range installed {
		all = append(all, h.event)
	}
	return all
}

// Install gives the text of Claude Code's settings with our hooks on these
// events in it, in place of any that an earlier install has put there. program
// is the path of obs; args, such as --config and a file, go behind the hook's
// name. The rest of the text stays as it is, to the byte. Empty text is empty
// settings.
func Install(text []byte, events []Event, program string, args ...string) ([]byte, error) {
	want := map[Event]string{}
	for _, h := range installed {
		if !slices.Contains(events, h.event) {
			continue
		}
		words := append([]string{program, "hook", string(h.event)}, args...)
		for i := range words {
			words[i] = quoted(words[i])
		}
		want[h.event] = strings.Join(words, " ")
	}
	have, err := ourCommands(text)
	if err != nil {
		return nil, err
	}
	if slices.Equal(have, commandsInOrder(want)) {
		return text, nil
	}
	if text, err = Uninstall(text); err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(text)) == 0 {
		text = []byte("{}\n")
	}
	for _, h := range installed {
		if want[h.event] == "" {
			continue
		}
		group := hookGroup{h.matcher, []hookCommand{{"command", want[h.event], commandTimeout}}}
		if text, err = addGroup(text, h.event.Claude(), group); err != nil {
			return nil, err
		}
	}
	return text, nil
}

// commandsInOrder sorts, because the order of hooks among events means
// nothing.
func commandsInOrder(want map[Event]string) []string {
	var all []string
	for event, command := range want {
		all = append(all, event.Claude()+" "+command)
	}
	slices.Sort(all)
	return all
}

func addGroup(text []byte, event string, group hookGroup) ([]byte, error) {
	doc := document(text)
	root, err := doc.object(doc.whole())
	if err != nil {
		return nil, err
	}
	hooks, ok := root.find("hooks")
	if !ok {
		return doc.insert(root, "hooks", map[string][]hookGroup{event: {group}})
	}
	events, err := doc.object(hooks)
	if err != nil {
		return nil, fmt.Errorf("hooks: %w", err)
	}
	list, ok := events.find(event)
	if !ok {
		return doc.insert(events, event, []hookGroup{group})
	}
	groups, err := doc.array(list)
	if err != nil {
		return nil, fmt.Errorf("hooks.%s: %w", event, err)
	}
	return doc.insert(groups, "", group)
}

// Uninstall gives the text of Claude Code's settings without our hooks, and
// without the lists that are empty when they are gone.
func Uninstall(text []byte) ([]byte, error) {
	for {
		next, found, err := removeOne(text)
		if err != nil || !found {
			return next, err
		}
		text = next
	}
}

// place is where a command of ours stands: in hooks[event][group].hooks[command].
type place struct {
	root, events, groups, commands list
	event, groupAt, at             int
	key                            string // the event and the command
}

// ourCommands lists our commands, each behind its event, sorted.
func ourCommands(text []byte) ([]string, error) {
	places, err := ours(document(text))
	var keys []string
	for _, p := range places {
		keys = append(keys, p.key)
	}
	slices.Sort(keys)
	return keys, err
}

func removeOne(text []byte) (next []byte, found bool, err error) {
	doc := document(text)
	places, err := ours(doc)
	if err != nil || len(places) == 0 {
		return text, false, err
	}
	p := places[0]
	switch {
	case len(p.commands.items) > 1:
		return doc.remove(p.commands, p.at), true, nil
	case len(p.groups.items) > 1:
		return doc.remove(p.groups, p.groupAt), true, nil
	case len(p.events.items) > 1:
		return doc.remove(p.events, p.event), true, nil
	}
	at := slices.IndexFunc(p.root.items, func(i item) bool { return i.name == "hooks" })
	return doc.remove(p.root, at), true, nil
}

// ours finds our commands. What has another form than hooks have is not ours,
// but "hooks" itself has to be an object.
func ours(doc document) ([]place, error) {
	if len(bytes.TrimSpace(doc)) == 0 {
		return nil, nil
	}
	root, err := doc.object(doc.whole())
	if err != nil {
		return nil, err
	}
	hooks, ok := root.find("hooks")
	if !ok {
		return nil, nil
	}
	events, err := doc.object(hooks)
	if err != nil {
		return nil, fmt.Errorf("hooks: %w", err)
	}
	var places []place
	for e, event := range events.items {
		groups, err := doc.array(event.value)
		if err != nil {
			continue
		}
		for g, one := range groups.items {
			group, err := doc.object(one.value)
			if err != nil {
				continue
			}
			list, ok := group.find("hooks")
			if !ok {
				continue
			}
			commands, err := doc.array(list)
			if err != nil {
				continue
			}
			for c, command := range commands.items {
				var what struct{ Command string }
				if json.Unmarshal(doc[command.value.from:command.value.to], &what) == nil && isOurs(what.Command) {
					places = append(places, place{root, events, groups, commands, e, g, c, event.name + " " + what.Command})
				}
			}
		}
	}
	return places, nil
}

var ourCommand = regexp.MustCompile(`^(?:'([^']+)'|"([^"]+)"|(\S+)) hook ([a-z-]+)(?: |$)`)

// isOurs reports whether a command calls a hook of obs, of whatever copy of
// the program.
func isOurs(command string) bool {
	m := ourCommand.FindStringSubmatch(command)
	if m == nil {
		return false
	}
	name := path.Base(strings.ReplaceAll(m[1]+m[2]+m[3], `\`, "/"))
	known := slices.ContainsFunc(installed, func(h struct {
		event   Event
		matcher string
	},
	) bool {
		return h.event == Event(m[4])
	})
	return known && (name == "obs" || strings.HasPrefix(name, "obs.") || strings.HasPrefix(name, "obs-"))
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// quoted is a word as a shell has to read it. Claude Code runs hooks in bash
// on Windows as well.
func quoted(word string) string {
	word = strings.ReplaceAll(word, `\`, "/")
	if plainWord.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
