package llm

import (
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
)

// noteGrep writes on a search in the code. Few hits, or none, are knowledge;
// many are not.
func noteGrep(s *step) (Observation, bool) {
	what := strings.TrimSuffix(strings.TrimPrefix(oneLine(s.in.get("pattern", "query").str()), `\b`), `\b`)
	if what == "" || s.err != "" {
		return Observation{}, false
	}
	var files []string
	for _, f := range s.out.get("filenames").list() {
		files = add(files, s.rel(f.str()))
	}
	content := s.out.get("content").text()
	if s.out.str() != "" {
		content = s.out.str()
	}
	var hits []string
	for _, l := range lines(content) {
		if l = strings.TrimSpace(l); l == "" || l == "--" {
			continue
		}
		hits = append(hits, l)
		if file, _, ok := strings.Cut(l, ":"); ok && strings.Contains(file, ".") && !strings.Contains(file, " ") {
			files = add(files, s.rel(file))
		}
		if len(hits) == 2000 {
			break
		}
	}
	where := s.rel(s.in.get("path").str())
	if where == "" || where == s.cwd {
		where = s.in.get("glob", "type").str()
	}
	o := Observation{Type: typeDiscovery, Concepts: []string{howItWorks}}
	if len(files) == 0 && len(hits) == 0 || strings.HasPrefix(content, "No files found") || strings.HasPrefix(content, "No matches found") {
		if s.out.v == nil {
			return o, false
		}
		o.Title = quote(what, 60) + " occurs nowhere" + in(where)
		o.Facts = []string{"no match for " + quote(what, 120) + in(where)}
		return o, true
	}
	if len(files) > 8 || len(hits) > 40 || len(hits) == 0 && len(files) > 3 || len(files) > 5 && len(hits) > 10 { // a word that is everywhere
		return o, false
	}
	short := slices.Clone(files)
	for i, f := range short {
		if path.IsAbs(f) || len(f) > 40 {
			short[i] = path.Base(f)
		}
	}
	o.Title = quote(what, 60) + " occurs in " + list(short, 3)
	if len(files) == 0 {
		o.Title = quote(what, 60) + " occurs" + in(where) + ": " + plural(len(hits), "match")
	}
	o.FilesRead = files
	for _, h := range hits[:min(len(hits), 6)] {
		if s.cwd != "" {
			h = strings.TrimPrefix(h, s.cwd+"/")
		}
		o.Facts = append(o.Facts, quote(h, 220))
	}
	if n, ok := s.out.get("numMatches").num(); ok && n > 0 {
		o.Facts = append(o.Facts, plural(n, "match"))
	}
	if len(o.Facts) == 0 {
		o.Facts = append(o.Facts, fmt.Sprintf("%s with a match: %s", plural(len(files), "file"), strings.Join(files, ", ")))
	}
	return o, true
}

func in(where string) string {
	if where == "" {
		return ""
	}
	return " in " + where
}

// noteGlob writes only on a search that found no file: that there is none.
func noteGlob(s *step) (Observation, bool) {
	what := oneLine(s.in.get("pattern").str())
	n, ok := s.out.get("numFiles").num()
	if what == "" || s.err != "" || !ok || n != 0 {
		return Observation{}, false
	}
	return Observation{
		Type: typeDiscovery, Title: "No file matches " + quote(what, 80), Concepts: []string{howItWorks},
		Facts: []string{"no file matches " + quote(what, 160) + in(s.rel(s.in.get("path").str()))},
	}, true
}

func noteFetch(s *step) (Observation, bool) {
	link := s.in.get("url").str()
	host := link
	if u, err := url.Parse(link); err == nil && u.Host != "" {
		host = u.Host
	}
	o := Observation{Type: typeDiscovery, Subtitle: link, Concepts: []string{howItWorks}}
	if n, ok := s.out.get("code").num(); s.err != "" || ok && n >= 400 {
		o.Concepts = []string{gotcha}
		o.Title = host + " cannot be read: " + first(nonEmpty(firstLine(s.err)), "status "+strconv.Itoa(n))
		return o, host != ""
	}
	text := s.out.get("result", "content").text()
	if text == "" {
		text = s.out.str()
	}
	return found(o, host, text)
}

// found writes what a page or a helper said.
func found(o Observation, who, text string) (Observation, bool) {
	all := sentences(text)
	all = slices.DeleteFunc(all, func(t string) bool { return len(strings.Fields(t)) < 4 || strings.HasSuffix(t, ":") })
	if len(all) == 0 {
		return o, false
	}
	o.Title = who + ": " + headOf(unstop(all[0]))
	o.Narrative = strings.Join(all[:min(3, len(all))], " ")
	for _, t := range all[min(3, len(all)):min(11, len(all))] {
		o.Facts = append(o.Facts, clip(t, maxFact))
	}
	return o, true
}

func noteWebSearch(s *step) (Observation, bool) {
	query := oneLine(s.in.get("query").str())
	o := Observation{Type: typeDiscovery, Title: "Searched the web for " + quote(query, 80), Concepts: []string{howItWorks}}
	said := s.out.str()
	for _, r := range s.out.get("results").list() {
		for _, hit := range append(r.get("content").list(), r) {
			if title := oneLine(hit.get("title").str()); title != "" && len(o.Facts) < 5 {
				o.Facts = add(o.Facts, clip(title+" "+hit.get("url").str(), maxFact))
			}
		}
		if said == "" {
			said = r.str()
		}
	}
	if all := sentences(said); len(all) > 0 && len(strings.Fields(all[0])) > 4 {
		o.Title, o.Subtitle = headOf(unstop(all[0])), "found on the web for: "+query
		o.Narrative = strings.Join(all[:min(3, len(all))], " ")
	}
	return o, query != "" && (len(o.Facts) > 0 || o.Narrative != "")
}

// noteHelper writes what a sub-agent came back with.
func noteHelper(s *step) (Observation, bool) {
	o := Observation{Type: typeDiscovery, Concepts: []string{howItWorks}, Subtitle: oneLine(s.in.get("subagent_type").str())}
	text := s.out.get("content", "result").text()
	if text == "" {
		text = s.out.text()
	}
	who := first(nonEmpty(oneLine(s.in.get("description").str())), "helper")
	return found(o, who, text)
}

// noteAnswers writes on questions that a person answered, and on plans that a
// person let pass: both decide.
func noteAnswers(s *step) (Observation, bool) {
	o := Observation{Type: typeDecision, Concepts: []string{whyItExists}}
	if plan := s.in.get("plan").str(); plan != "" {
		heads := declaredIn("plan.md", lines(plan))
		o.Title = "Plan: " + first(heads, unstop(opening(plan, 1)))
		all := sentences(plan)
		for _, t := range all[:min(8, len(all))] {
			o.Facts = append(o.Facts, clip(t, maxFact))
		}
		return o, s.err == "" && len(all) > 0
	}
	answers, _ := s.out.get("answers").v.(map[string]any)
	for _, question := range slices.Sorted(maps.Keys(answers)) {
		answer := oneLine(node{answers[question]}.text())
		if answer == "" {
			continue
		}
		if o.Title == "" {
			o.Title = answer + ": the answer to " + quote(question, 80)
		}
		o.Facts = append(o.Facts, clip(oneLine(question)+" "+answer, maxFact))
	}
	return o, o.Title != ""
}

// noteOther writes on a tool nobody told us about, an MCP server's as a rule.
func noteOther(s *step) (Observation, bool) {
	name := s.tool
	if rest, ok := strings.CutPrefix(name, "mcp__"); ok {
		name = strings.Replace(rest, "__", " ", 1)
	}
	o := Observation{Type: typeDiscovery, Concepts: []string{howItWorks}}
	if s.err != "" {
		o.Concepts = []string{gotcha}
		o.Title = name + " fails: " + firstLine(s.err)
		o.Facts = []string{quote(firstLine(s.err), 220)}
		return o, true
	}
	for _, key := range []string{"query", "url", "path", "name", "title", "id"} {
		if v := oneLine(s.in.get(key).str()); v != "" {
			o.Subtitle = key + " " + v
			break
		}
	}
	return found(o, name, s.out.text())
}

// noteFree writes on an event of unknown shape: its words if it has some,
// otherwise its named values.
func noteFree(s *step) (Observation, bool) {
	o := Observation{Type: typeDiscovery, Concepts: []string{whatChanged}}
	what := strings.ReplaceAll(oneLine(s.typ), "_", " ")
	if what == "" {
		what = "event"
	}
	if all := sentences(s.words); len(all) > 0 && len(strings.Fields(all[0])) > 2 {
		o.Title = upperFirst(what) + ": " + unstop(all[0])
		o.Narrative = strings.Join(all[:min(3, len(all))], " ")
	}
	m, _ := s.root.v.(map[string]any)
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if key == "cwd" || strings.HasSuffix(strings.ToLower(key), "id") || len(o.Facts) == 6 {
			continue
		}
		switch v := m[key].(type) {
		case string:
			if v = oneLine(v); v != "" && v != oneLine(s.words) {
				o.Facts = append(o.Facts, clip(key+": "+v, maxFact))
			}
		case float64:
			o.Facts = append(o.Facts, clip(key+": "+strconv.FormatFloat(v, 'f', -1, 64), maxFact))
		}
	}
	if o.Title == "" && len(o.Facts) >= 2 {
		o.Title = upperFirst(what) + ": " + strings.Join(o.Facts[:min(3, len(o.Facts))], ", ")
	}
	return o, o.Title != ""
}
