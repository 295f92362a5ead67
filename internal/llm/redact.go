package llm

import "github.com/seed-245eaa15/obs/internal/secrets"

// redact takes what looks like a credential out of s and returns in words
// what it is sure of, also of what somebody else took out before. It keeps the
// number of lines.
func redact(s string) (string, []string) {
	s, _ = secrets.Redact(s)
	var found []string
	for _, kind := range secrets.Marked(s) {
		if secrets.Sure(kind) {
			found = add(found, secrets.Title(kind))
		}
	}
	return s, found
}
