// Package search says what an observation is found by: it cuts texts into
// lexemes, makes the index entry of a note and the question of a query, and
// ranks what the index found. It knows no database.
//
// The index and the question are cut by the same code, so what stands in a
// note is found by what is typed: a word in any form, and an identifier or a
// path as a whole and by its parts. getUserById is getuserbyid, get, user and
// id; src/api/handle.go is src, api, handlego, handle and go.
//
// Start with [Note.Entry] and [Parse].
package search

import (
	"encoding/json"
	"strings"
)

// Note is what a search knows of an observation.
type Note struct {
	Title     string   `json:"title"`
	Subtitle  string   `json:"subtitle"`
	Narrative string   `json:"narrative"`
	Facts     []string `json:"facts"`
	Concepts  []string `json:"concepts"`
	Read      []string `json:"files_read"`
	Modified  []string `json:"files_modified"`
	Body      string   `json:"-"` // what the text has that the parts have not
}

// NoteOf reads a stored observation. Metadata may be any object: what is not
// as a note's is left out.
func NoteOf(content string, metadata []byte) Note {
	var n Note
	if json.Unmarshal(metadata, &n) != nil {
		n = Note{}
		var loose map[string]json.RawMessage
		if json.Unmarshal(metadata, &loose) == nil {
			for key, into := range map[string]any{
				"title": &n.Title, "subtitle": &n.Subtitle, "narrative": &n.Narrative, "facts": &n.Facts,
				"concepts": &n.Concepts, "files_read": &n.Read, "files_modified": &n.Modified,
			} {
				_ = json.Unmarshal(loose[key], into) // a member of another type says nothing
			}
		}
	}
	n.Body = n.beyond(content)
	return n
}

// beyond is what a content has that is in none of the parts, line by line: a
// client may give a text and facts that have nothing to do with each other.
func (n Note) beyond(content string) string {
	said := map[string]bool{"": true}
	for _, part := range []string{n.Title, n.Subtitle, n.Narrative} {
		for line := range strings.Lines(part) {
			said[strings.TrimSpace(line)] = true
		}
	}
	for _, f := range n.Facts {
		for line := range strings.Lines("- " + f) {
			said[strings.TrimSpace(line)] = true
		}
	}
	var rest strings.Builder
	for line := range strings.Lines(content) {
		if !said[strings.TrimSpace(line)] {
			rest.WriteString(line)
		}
	}
	return rest.String()
}
