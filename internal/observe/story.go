package observe

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-245eaa15/obs/internal/search"
	"github.com/seed-245eaa15/obs/sqlc"
)

// How a note is shown where there is room for it, and where there is less.
const (
	detailed    = 0.5 // of the room, for notes of the latest session with their detail
	maxDetail   = 400 // bytes
	maxLine     = 200
	maxAnswer   = 600 // bytes of each part of a summary
	filesListed = 3
)

// chapter is a session's part of the story.
type chapter struct {
	head    string
	summary *sqlc.RecentWithSessionsRow
	notes   []sqlc.RecentWithSessionsRow
	times   []int // how often each is said
}

// tell writes what the latest sessions left, the latest first: the summary of
// each, then its notes, those that say most first. Notes that say the same are
// told once.
func tell(rows []sqlc.RecentWithSessionsRow, budget, limit int) ContextResult {
	var r ContextResult
	chapters := chaptersOf(rows, &r)
	var text strings.Builder
	room := func(s string, share float64) bool {
		return tokens(text.Len()+len(s)) <= int(float64(budget)*share)
	}
	for i, c := range chapters {
		begun := false
		begin := func() string {
			if begun {
				return ""
			}
			if text.Len() > 0 {
				return "\n" + c.head
			}
			return c.head
		}
		if c.summary != nil && len(r.Observations) < limit {
			s := begin() + summaryText(*c.summary)
			if room(s, 1) {
				text.WriteString(s)
				begun = true
				r.Observations = append(r.Observations, observationOf(*c.summary))
			} else {
				r.Left++
			}
		}
		for j, note := range c.notes {
			s := begin() + noteText(note, c.times[j], i == 0)
			if i == 0 && !room(s, detailed) {
				s = begin() + noteText(note, c.times[j], false)
			}
			if len(r.Observations) == limit || !room(s, 1) {
				r.Left++
				continue
			}
			text.WriteString(s)
			begun = true
			r.Observations = append(r.Observations, observationOf(note))
		}
	}
	r.Text = strings.TrimSpace(text.String())
	r.Tokens = tokens(len(r.Text))
	return r
}

func observationOf(r sqlc.RecentWithSessionsRow) Observation {
	return Observation{
		ID: r.ID, ProjectID: r.ProjectID, TeamID: r.TeamID, ServerSessionID: r.ServerSessionID, Kind: r.Kind, Content: r.Content,
		Metadata: r.Metadata, GenerationKey: r.GenerationKey, CreatedByJobID: r.CreatedByJobID, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
	}
}

// telling says which kinds of note an agent should read first.
var telling = []string{"decision", "bugfix", "security_note", kindManual, "feature", "refactor", "discovery", "change"}

// chaptersOf groups rows, the newest of which comes first, by their session.
func chaptersOf(rows []sqlc.RecentWithSessionsRow, r *ContextResult) []*chapter {
	var chapters []*chapter
	of := map[string]*chapter{}
	var told []search.Sketch
	var where []func()
	for _, row := range rows {
		c := of[deref(row.ServerSessionID)]
		if c == nil {
			c = &chapter{head: headOf(row)}
			of[deref(row.ServerSessionID)] = c
			chapters = append(chapters, c)
		}
		if row.Kind == kindSummaryNote {
			if c.summary == nil {
				c.summary = &row
			} else {
				r.Folded++
			}
			continue
		}
		sketch := search.NoteOf(row.Content, row.Metadata).Sketch()
		if i := alike(told, sketch); i >= 0 {
			where[i]()
			r.Folded++
			continue
		}
		n := len(c.notes)
		told, where = append(told, sketch), append(where, func() { c.times[n]++ })
		c.notes, c.times = append(c.notes, row), append(c.times, 1)
	}
	for _, c := range chapters {
		c.sort()
	}
	return chapters
}

// sort puts the notes that say most first, and keeps of each kind the order.
func (c *chapter) sort() {
	rank := func(i int) int {
		if n := slices.Index(telling, c.notes[i].Kind); n >= 0 {
			return n
		}
		return slices.Index(telling, "feature")
	}
	order := make([]int, len(c.notes))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return rank(a) - rank(b) })
	notes, times := make([]sqlc.RecentWithSessionsRow, len(order)), make([]int, len(order))
	for to, from := range order {
		notes[to], times[to] = c.notes[from], c.times[from]
	}
	c.notes, c.times = notes, times
}

func headOf(r sqlc.RecentWithSessionsRow) string {
	if r.ServerSessionID == nil {
		return "## Outside of sessions\n"
	}
	at := r.CreatedAt
	if r.StartedAt != nil {
		at = *r.StartedAt
	}
	by := ""
	if r.Platform != "" && plainPlatform.MatchString(r.Platform) {
		by = ", " + r.Platform
	}
	return fmt.Sprintf("## Session of %s%s (%s)\n", at.UTC().Format("2006-01-02 15:04 UTC"), by, *r.ServerSessionID)
}

func summaryText(r sqlc.RecentWithSessionsRow) string {
	var m summaryMeta
	var parts []string
	if json.Unmarshal(r.Metadata, &m) == nil {
		for _, p := range [][2]string{
			{"Asked", m.Request}, {"Done", m.Completed}, {"Learned", m.Learned}, {"Next", m.NextSteps}, {"Investigated", m.Investigated}, {"Notes", m.Notes},
		} {
			if said := line(p[1], maxAnswer); said != "" {
				parts = append(parts, fmt.Sprintf("**%s:** %s\n", p[0], said))
			}
		}
	}
	if len(parts) == 0 { // edited, or of another program
		parts = []string{line(r.Content, 3*maxAnswer) + "\n"}
	}
	return strings.Join(parts, "")
}

// noteText is a note as an item of a list: its title and files, and where
// there is room for it what it says.
func noteText(r sqlc.RecentWithSessionsRow, times int, detail bool) string {
	n := search.NoteOf(r.Content, r.Metadata)
	title, rest := n.Title, n.Narrative
	if title == "" {
		title, rest, _ = strings.Cut(strings.TrimSpace(r.Content), "\n")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "- **%s** %s", line(r.Kind, maxKind), line(title, maxLine))
	files := append(slices.Clone(n.Modified), n.Read...)
	if len(files) > 0 {
		more := ""
		if len(files) > filesListed {
			more = fmt.Sprintf(" and %d more", len(files)-filesListed)
		}
		fmt.Fprintf(&b, " (%s%s)", line(strings.Join(files[:min(len(files), filesListed)], ", "), maxLine), more)
	}
	if times > 1 {
		fmt.Fprintf(&b, " [%d times]", times)
	}
	if said := line(rest, maxDetail); detail && said != "" {
		b.WriteString("\n  " + said)
	} else if detail && len(n.Facts) > 0 {
		b.WriteString("\n  " + line(strings.Join(n.Facts, "; "), maxDetail))
	}
	b.WriteByte('\n')
	return b.String()
}

// line is a text in one line of at most so many bytes.
func line(s string, most int) string { return cut(strings.Join(strings.Fields(s), " "), most) }
