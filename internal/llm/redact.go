package llm

import (
	"regexp"
	"strings"
)

const redacted = "[redacted]"

// secret is one way a credential can look.
type secret struct {
	name    string   // for the security note; empty when the look is weak evidence
	markers []string // one of them must be in the text: cheap, before the expression
	expr    *regexp.Regexp
	repl    string
}

var secretLooks = []secret{
	{"private key", []string{"PRIVATE KEY"}, regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----(?s:.*?)(?:-----END [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----|\z)`), redacted},
	{"AWS access key", []string{"AKIA", "ASIA"}, regexp.MustCompile(`(?:AKIA|ASIA)[0-9A-Z]{12,}`), redacted},
	{"GitHub token", []string{"ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"}, regexp.MustCompile(`(?:gh[pousr]|github_pat)_[A-Za-z0-9_]{8,}`), redacted},
	{"GitLab token", []string{"glpat-"}, regexp.MustCompile(`glpat-[A-Za-z0-9_-]{8,}`), redacted},
	{"API key", []string{"sk-", "sk_live_", "rk_live_"}, regexp.MustCompile(`\b(?:sk-|[sr]k_live_)[A-Za-z0-9_-]{8,}`), redacted},
	{"Slack token", []string{"xox"}, regexp.MustCompile(`xox[abeoprs]-[A-Za-z0-9-]{8,}`), redacted},
	{"Google API key", []string{"AIza"}, regexp.MustCompile(`AIza[A-Za-z0-9_-]{20,}`), redacted},
	{"obs key", []string{"obs_", "cmem_"}, regexp.MustCompile(`\b(?:obs|cmem)_[A-Za-z0-9_-]*[0-9][A-Za-z0-9_-]{24,}`), redacted},
	{"NATS seed", []string{"SU", "SA", "SO"}, regexp.MustCompile(`\bS[UAO][A-Z2-7]{56}\b`), redacted},
	{"", []string{"eyJ"}, regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.?[A-Za-z0-9_-]*`), redacted},
	{"", []string{"earer"}, regexp.MustCompile(`([Bb]earer\s+)[A-Za-z0-9._~+/-]{12,}=*`), "${1}" + redacted},
	{"", []string{"://"}, regexp.MustCompile(`(://[^\s:/@"'` + "`" + `]+:)[^\s:/@"'` + "`" + `]+@`), "${1}" + redacted + "@"},
	// A line of a key's or certificate's body on its own.
	{"", nil, regexp.MustCompile(`(?m)^([ \t+-]*)[A-Za-z0-9/+]{64,76}={0,2}[ \t]*$`), "${1}" + redacted},
}

// assignment is "password = …" in its many spellings. The value must look like
// a literal: code such as `token := next()` stays readable.
var assignment = regexp.MustCompile(`(?i)([a-z0-9_.-]*(?:password|passwd|pwd|secret|token|api[_-]?key|access[_-]?key)["']?\s*(?::=|[:=])\s*["']?)([A-Za-z0-9+/_.=!@#$%^&*-]{8,})`)

// redact takes what looks like a credential out of s and returns the names of
// the looks it is sure of. It keeps the number of lines.
func redact(s string) (string, []string) {
	var found []string
	for _, look := range secretLooks {
		if !containsAny(s, look.markers) {
			continue
		}
		s = look.expr.ReplaceAllStringFunc(s, func(hit string) string {
			if look.markers == nil && !mixed(hit) {
				return hit
			}
			if look.name != "" {
				found = add(found, look.name)
			}
			return look.expr.ReplaceAllString(hit, look.repl) + strings.Repeat("\n", strings.Count(hit, "\n"))
		})
	}
	if hasAssignmentWord(s) {
		s = assignment.ReplaceAllStringFunc(s, func(hit string) string {
			m := assignment.FindStringSubmatch(hit)
			if !strings.ContainsAny(m[2], "0123456789!@#$%^&*") || strings.Contains(m[2], redacted) {
				return hit
			}
			return m[1] + redacted
		})
	}
	return s, found
}

func containsAny(s string, markers []string) bool {
	for _, m := range markers {
		if strings.Contains(s, m) {
			return true
		}
	}
	return len(markers) == 0
}

func hasAssignmentWord(s string) bool {
	for _, w := range []string{"assw", "ASSW", "pwd", "PWD", "ecret", "ECRET", "oken", "OKEN", "key", "Key", "KEY"} {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}

// mixed tells base64 from hex digests, long words and rulers.
func mixed(s string) bool {
	return strings.ContainsAny(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") &&
		strings.ContainsAny(s, "abcdefghijklmnopqrstuvwxyz") && strings.ContainsAny(s, "0123456789")
}
