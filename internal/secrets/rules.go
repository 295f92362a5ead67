package secrets

import (
	"math"
	"regexp"
	"strings"
	"sync"

	ahocorasick "github.com/BobuSumisu/aho-corasick"
	"github.com/pelletier/go-toml/v2"
	"github.com/zricethezav/gitleaks/v8/config"
)

// rule is one way a secret can look.
type rule struct {
	kind    string
	expr    func() *regexp.Regexp // made when it is first needed
	group   int                   // of the expression that is the secret; 0: the first that matched, or all
	entropy float64               // bits a byte that the secret has at least
	wide    bool                  // the keyword stands some way before the secret
	far     bool                  // and the secret goes on, maybe to the text's end
	sure    func(secret string) bool
}

// set is all rules, by the words that call them.
type set struct {
	words  words
	called [][]int // by word: the rules
	rules  []rule
	mark   int // of words: those from here on stand before an assignment
}

// words finds some words in lower-case text.
type words struct{ trie *ahocorasick.Trie }

func (w words) has(low []byte) bool {
	found := false
	w.trie.Walk(low, func(_, _, _ int64) bool { found = true; return false })
	return found
}

// skipped are rules of gitleaks that we have our own for, or that need the
// name of a file.
var skipped = map[string]bool{
	"generic-api-key": true, "private-key": true, "curl-auth-header": true, "curl-auth-user": true, "kubernetes-secret-yaml": true,
	"hashicorp-tf-password": true, "pkcs12-file": true, "freemius-secret-key": true, "nuget-config-password": true,
}

// rarer are keywords that stand in for those of gitleaks that every text has.
var rarer = map[string][]string{
	"jwt":                    {"eyj"},
	"twilio-api-key":         {}, // found as a long run
	"vault-service-token":    {"hvs."},
	"lob-api-key":            {"lob_", "lob-", "lob.", "lob "},
	"lob-pub-api-key":        {"test_pub", "live_pub"},
	"gocardless-api-token":   {"gocardless"},
	"sendgrid-api-token":     {"sg."},
	"octopus-deploy-api-key": {"api-"},
}

var rules = sync.OnceValue(func() *set {
	var doc struct {
		Rules []struct {
			ID, Regex   string
			Keywords    []string
			Entropy     float64
			SecretGroup int
		}
	}
	if err := toml.Unmarshal([]byte(config.DefaultConfig), &doc); err != nil {
		panic("secrets: the rules of gitleaks: " + err.Error()) // a test reads them
	}
	s := &set{}
	number := map[string]int{}
	b := ahocorasick.NewTrieBuilder()
	call := func(rule int, keywords ...string) {
		for _, k := range keywords {
			n, ok := number[k]
			if !ok {
				n = len(s.called)
				number[k] = n
				s.called = append(s.called, nil)
				b.AddString(k)
			}
			if rule >= 0 {
				s.called[n] = append(s.called[n], rule)
			}
		}
	}
	for _, r := range doc.Rules {
		if skipped[r.ID] || r.Regex == "" {
			continue
		}
		keywords := r.Keywords
		if other, ok := rarer[r.ID]; ok {
			keywords = other
		}
		call(len(s.rules), keywords...)
		s.rules = append(s.rules, rule{
			kind: r.ID, expr: sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(r.Regex) }),
			group: r.SecretGroup, entropy: r.Entropy, wide: strings.Contains(r.Regex, `[\w.-]{0,50}?`),
		})
	}
	for _, o := range ownRules {
		call(len(s.rules), o.keywords...)
		s.rules = append(s.rules, rule{
			kind: o.kind, expr: sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(o.expr) }), wide: o.wide, far: o.far, sure: o.sure,
		})
	}
	s.mark = len(s.called)
	for _, w := range assignedWords {
		if _, ok := number[w]; ok {
			panic("secrets: the word " + w + " calls a rule already")
		}
		call(-1, w)
	}
	s.words = words{b.Build()}
	return s
})

// entropy is how many bits a byte of s carries.
func entropy(s string) float64 {
	var counts [256]int
	for i := range len(s) {
		counts[s[i]]++
	}
	bits := 0.0
	for _, n := range counts {
		if n > 0 {
			p := float64(n) / float64(len(s))
			bits -= p * math.Log2(p)
		}
	}
	return bits
}
