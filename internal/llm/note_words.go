package llm

import (
	"regexp"
	"strings"
)

var (
	decides = look("decide decided decides deciding decision will ll shall going chose picked opted dropped rejected choose settled agreed let use keep", `(?i)\b(?:decid(?:e|ed|es|ing) (?:to|on|that|against|for)|decision[:,]|the decision (?:is|was)|(?:we|i)(?:['’]ll| will| shall) (?:use|keep|go with|stick with|take|adopt|drop|stay with|not use)|(?:we['’]re|we are) going with|(?:we|i) (?:chose|picked|opted|dropped|rejected)|chose \S+|choose \S+ over|opted (?:for|to)|settled on|agreed (?:on|to|that)|let['’]s (?:use|keep|go with|drop)|we (?:use|keep) .* (?:because|so that))`)
	weighs  = look("instead rather favor favour", `(?i)\b(?:instead of|rather than|in favou?r of)\b`)
	reasons = look("because so since otherwise reason", `(?i)\b(?:because|so that|since|otherwise|reason)\b`)
	acts    = regexp.MustCompile(`(?i)^(?:so |then |and |now )?(?:we|i|use|keep|make|put|move|store|write|delete|return|let|prefer|take|do|the \w+ (?:now|is|are|stays?|keeps?|uses?))\b`)
	reports = look("returned took failed fails got gave wrong bug broke was hung", `(?i)\b(?:returned|took|failed|fails|got|gave|wrong|bug|broke|was flaky|hung)\b`)
	explain = regexp.MustCompile(`(?i)\b(?:root cause|(?:bug|cause|problem|culprit|trap|catch|mistake|flake) (?:was|is|turned out)|turn(?:s|ed) out|(?:fail(?:ed|s)|hung|hangs|deadlock(?:ed|s)|flaky|slow|happen(?:s|ed)) because|that is why|beware|the trap)\b`)
	orders  = look("must never always do don", `(?i)\b(?:must(?: not| never)?|never|always|do not|don['’]t ever)\b`)
	opener  = regexp.MustCompile(`(?i)^(?:so|and|then|ok|okay|therefore|thus|hence|finally|in the end|also|but|now|it turn(?:s|ed) out that)[, ]+\s*`)
	subject = regexp.MustCompile(`(?i)^(?:i|we)(?:['’]ve| have)? (decided|chose|opted|settled|dropped|picked|rejected)\b`)
)

func isDecision(s string) bool {
	if decides.MatchString(s) {
		return true
	}
	return weighs.MatchString(s) && !reports.MatchString(s) && (acts.MatchString(s) || reasons.MatchString(s))
}

// usable drops questions and sentences too short or too long to stand alone.
func usable(s string) bool {
	n := len(strings.Fields(s))
	return n >= 5 && n <= 70 && !strings.HasSuffix(s, "?")
}

// noteWords writes on a prompt or a message: what was decided, and what was
// found to be the cause of something.
func noteWords(s *step) (decisions, insights []Observation) {
	read := 0
	for _, para := range paragraphs(s.words) {
		if read += len(para); read > 400 {
			break
		}
		last := -2 // a decision right after another one continues it
		for i, text := range para {
			decision := usable(text) && (isDecision(text) || s.kind == kindPrompt && orders.MatchString(text) && reasons.MatchString(text))
			insight := usable(text) && !decision && s.kind != kindPrompt && explain.MatchString(text)
			switch {
			case decision && i == last+1:
				d := &decisions[len(decisions)-1]
				d.Narrative = strings.Replace(d.Narrative, text, "", 1) + " " + text
				last = i
			case decision:
				o := Observation{Type: typeDecision, Title: asTitle(text), Narrative: around(para, i), Concepts: []string{whyItExists}}
				if weighs.MatchString(text) || strings.Contains(text, " over ") {
					o.Concepts = []string{tradeOff, whyItExists}
				}
				decisions = append(decisions, o)
				last = i
			case insight:
				insights = append(insights, Observation{
					Type: typeDiscovery, Title: asTitle(text), Narrative: around(para, i), Concepts: []string{gotcha, problemSolution},
				})
			}
		}
	}
	return decisions[:min(len(decisions), 3)], insights[:min(len(insights), 2)]
}

// around is a sentence with its neighbour: the one that continues it, or else
// the one before.
func around(para []string, i int) string {
	if i+1 < len(para) && (continues(para[i+1]) || reasons.MatchString(para[i+1]) || i == 0) {
		return strings.Join(para[i:min(i+2, len(para))], " ")
	}
	return strings.Join(para[max(0, i-1):i+1], " ")
}

func continues(s string) bool {
	w, _, _ := strings.Cut(strings.ToLower(s), " ")
	switch strings.Trim(w, ",:") {
	case "that", "this", "it", "otherwise", "because", "so", "which", "they", "hence", "then", "but", "with":
		return true
	}
	return false
}

func asTitle(s string) string {
	s = opener.ReplaceAllString(s, "")
	s = subject.ReplaceAllString(s, "$1")
	return unstop(upperFirst(headOf(unstop(s))))
}
