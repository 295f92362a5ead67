package llm

import (
	"cmp"
	"slices"
)

// bytesPerToken is how much text a token stands for: less than prose has, so
// that code and JSON keep within the budget too.
const bytesPerToken = 3

// shown is what a prompt shows, in the order in which it happened.
type shown struct {
	notes, events []string
	last          string
	leftOut       int
}

// The ranks of events: what says most goes in first when there is not room
// for all.
const (
	rankQuiet   = iota // announces something
	rankLook           // reading, searching, listing
	rankRun            // commands, the web, helpers
	rankChange         // edits, commits
	rankWords          // prompts, messages, answers, plans: what was wanted and decided
	rankFailure        // what went wrong
	ranks
)

// roomOf bounds the payload of an event in a summary's prompt, by its rank.
var roomOf = [ranks]int{200, 700, 2 << 10, 4 << 10, 8 << 10, 4 << 10}

// rank says how much an event is worth in the telling of a session.
func (e Event) rank() int {
	s := decode(e)
	switch {
	case isQuiet(&s):
		return rankQuiet
	case s.kind == kindPrompt, s.kind == kindMessage:
		return rankWords
	case s.err != "":
		return rankFailure
	case s.kind != kindTool:
		return rankRun
	}
	switch s.tool {
	case "Edit", "MultiEdit", "NotebookEdit", "Write":
		return rankChange
	case "ExitPlanMode", "AskUserQuestion":
		return rankWords
	case "Read", "NotebookRead", "View", "LS", "Glob", "Grep", "TodoWrite", "ToolSearch":
		return rankLook
	case "Bash", "shell", "BashOutput":
		sh := shellOf(&s)
		switch {
		case sh.bad:
			return rankFailure
		case hasVerb(sh.cmds, "git commit"):
			return rankChange
		case sh.cmd.isIdle() || isSearch(sh.cmd):
			return rankLook
		}
	}
	return rankRun
}

// choose takes into most bytes what says most. Of events to observe all are
// shown, the long ones cut where there is not room; a summary shows the notes,
// the last message, and then the events by their rank, the newest of each
// first, as far as there is room.
func (q Question) choose(most int) shown {
	if q.Task != TaskSummarize {
		return q.cutLong(most)
	}
	var s shown
	if q.LastMessage != "" {
		s.last = "<last_message>" + cutBytes(escape(q.LastMessage), min(maxPayload, most/4)) + "</last_message>\n"
		most -= len(s.last)
	}
	forNotes := most / 2
	for _, n := range slices.Backward(q.Notes) { // the newest, when not all
		text := n.element()
		if forNotes -= len(text); forNotes < 0 {
			break
		}
		s.notes = append(s.notes, text)
		most -= len(text)
	}
	slices.Reverse(s.notes)

	type ranked struct{ at, rank int }
	order := make([]ranked, len(q.Events))
	for i, e := range q.Events {
		order[i] = ranked{i, e.rank()}
	}
	slices.SortFunc(order, func(a, b ranked) int { return cmp.Or(b.rank-a.rank, b.at-a.at) })
	texts := make([]string, len(q.Events))
	for _, r := range order {
		text := q.Events[r.at].element(roomOf[r.rank])
		if len(text) > most {
			s.leftOut++
			continue
		}
		texts[r.at] = text
		most -= len(text)
	}
	for _, t := range texts {
		if t != "" {
			s.events = append(s.events, t)
		}
	}
	return s
}

// cutLong shows all events: each has what it needs, and those that need more
// than their share of the room are cut to the same length.
func (q Question) cutLong(most int) shown {
	var s shown
	room := maxPayload
	for {
		s.events = s.events[:0]
		size := 0
		for _, e := range q.Events {
			s.events = append(s.events, e.element(room))
			size += len(s.events[len(s.events)-1])
		}
		if size <= most || room < 64 {
			return s
		}
		room = min(room-room/8, room*most/size) // what is long shrinks, what is short does not: again
	}
}
