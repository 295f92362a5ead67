// Package secrets finds credentials in text and takes them out. The looks of
// cloud keys, tokens and the like are the rules of gitleaks, which others keep;
// those that depend on a file's name are left out, and a few are our own (see
// own.go and assigned.go): what is dear in a repository's history, a false
// alarm, is cheap here, and the other way round.
//
// Start with [Redact].
package secrets

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
)

// Redact gives the text with a mark in place of each secret, and the kinds of
// those, each once. It keeps the number of lines. A text without one comes
// back as it is.
func Redact(s string) (clean string, found []string) {
	if len(s) < shortest {
		return s, nil
	}
	spans := scan(s)
	if len(spans) == 0 {
		return s, nil
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Or(a.from-b.from, b.to-a.to) })
	var out strings.Builder
	at := 0
	for _, p := range spans {
		if p.to <= at {
			continue
		}
		if p.from >= at { // else it goes on where the one before ended
			out.WriteString(s[at:p.from])
			out.WriteString(Mark(p.kind))
			if !slices.Contains(found, p.kind) {
				found = append(found, p.kind)
			}
		}
		out.WriteString(strings.Repeat("\n", strings.Count(s[max(at, p.from):p.to], "\n")))
		at = p.to
	}
	out.WriteString(s[at:])
	return out.String(), found
}

// Suspect reports whether there may be a secret in a text. It is quick; false
// is sure for the text and for every part of it, true is not.
func Suspect(text []byte) bool {
	if len(text) < shortest {
		return false
	}
	suspect := nextRun(text, 0) >= 0 || bytes.Contains(text, []byte(continued))
	lower(text, func(low []byte) {
		suspect = suspect || rules().words.has(low)
	})
	return suspect
}

// SuspectJSON is Suspect for a JSON document and the strings in it, however
// they are escaped. A mark of [Redact] is suspect too.
func SuspectJSON(doc []byte) bool {
	for rest := doc; ; {
		at := bytes.IndexByte(rest, '\\')
		if at < 0 || at+1 >= len(rest) {
			break
		}
		// A letter, or a slash, need not be written so.
		if rest[at+1] == '/' || rest[at+1] == 'u' && at+4 < len(rest) && rest[at+2] == '0' && rest[at+3] == '0' && rest[at+4] >= '2' && rest[at+4] <= '7' {
			return true
		}
		rest = rest[at+2:]
	}
	return Suspect(doc) || bytes.Contains(doc, []byte(markHead)) || bytes.Contains(doc, []byte(`\\\n`))
}

// Named reports whether a value is a secret by the name that it goes by, as in
// the members of a JSON object: password, api_key. kind is that of the secret.
func Named(name, value string) (kind string, ok bool) {
	if len(value) < shortest || len(name) > 200 {
		return "", false
	}
	return named(name, value)
}

const (
	shortest = 6 // bytes of a secret
	markHead = "[redacted:"
)

// Mark is what stands in place of a secret of a kind.
func Mark(kind string) string { return markHead + kind + "]" }

// Marked lists the kinds of the marks that stand in a text, each once.
func Marked(s string) []string {
	var kinds []string
	for {
		_, rest, ok := strings.Cut(s, markHead)
		if !ok {
			return kinds
		}
		kind, after, ok := strings.Cut(rest, "]")
		if ok && len(kind) < 80 && strings.Trim(kind, "abcdefghijklmnopqrstuvwxyz0123456789-") == "" && !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
		if s = after; !ok {
			return kinds
		}
	}
}

// Sure reports whether a kind is one that is known by its own look, and not
// only by the name that stood before it.
func Sure(kind string) bool {
	switch kind {
	case kindPassword, kindSecret, kindToken, kindKey, kindCredential, kindURL, kindHeader, kindBlock, kindJWT, "":
		return false
	}
	return true
}

// Title is a kind in words: "AWS access token".
func Title(kind string) string {
	words := strings.Split(kind, "-")
	for i, w := range words {
		if t, ok := spelled[w]; ok {
			words[i] = t
		} else if i == 0 && known(w) {
			words[i] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	return strings.Join(words, " ")
}

var spelled = map[string]string{
	"aws": "AWS", "gcp": "GCP", "api": "API", "github": "GitHub", "gitlab": "GitLab", "jwt": "JWT", "npm": "npm", "pypi": "PyPI",
	"id": "ID", "url": "URL", "pat": "access token", "nats": "NATS", "openai": "OpenAI", "huggingface": "Hugging Face", "digitalocean": "DigitalOcean",
	"sendgrid": "SendGrid", "ci": "CI", "cicd": "CI/CD", "oauth": "OAuth", "scim": "SCIM", "ad": "AD", "hashicorp": "HashiCorp", "tf": "Terraform",
	"private": "private", "password": "password", "obs": "obs", "netrc": "netrc", "kubernetes": "Kubernetes", "ptt": "trigger token", "rrt": "registration token",
}

// known tells names of services from plain words.
func known(w string) bool { return w != "" && w[0] >= 'a' && w[0] <= 'z' }
