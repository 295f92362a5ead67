package llm

import (
	"fmt"
	"path"
	"strings"
)

// fileRead is what a Read, or a cat, showed.
type fileRead struct {
	file  string
	text  []string
	names []string
	doc   string
	from  int // first line shown, 1 for the file's start
	total int // lines in the file; 0 when unknown
}

func readOf(s *step) (fileRead, bool) {
	r := fileRead{file: s.file(), from: 1}
	f := s.out.get("file")
	body := f.get("content").text()
	if n, ok := f.get("startLine").num(); ok && n > 1 {
		r.from = n
	}
	if n, ok := f.get("totalLines").num(); ok {
		r.total = n
	}
	if body == "" {
		body = unnumber(s.out.text())
	}
	if r.file == "" || strings.TrimSpace(body) == "" || s.err != "" {
		return r, false
	}
	r.text = lines(body)
	r.names = declaredIn(r.file, r.text)
	if r.from == 1 || isProse(r.file) {
		r.doc = docOf(r.file, r.text)
	}
	return r, len(r.names) > 0 || r.doc != ""
}

// unnumber takes off the line numbers that some senders keep before each line.
func unnumber(body string) string {
	all := lines(body)
	for i, l := range all {
		num, rest, ok := strings.Cut(l, "→")
		if !ok {
			num, rest, ok = strings.Cut(l, "\t")
		}
		if !ok || strings.Trim(num, " 0123456789") != "" || strings.TrimSpace(num) == "" {
			return body
		}
		all[i] = rest
	}
	return strings.Join(all, "\n")
}

// note writes one observation on one or more files that were read together.
func noteReads(reads []fileRead) Observation {
	o := Observation{Type: typeDiscovery, Concepts: []string{howItWorks}}
	for _, r := range reads {
		o.FilesRead = add(o.FilesRead, r.file)
	}
	first := reads[0]
	names := foremost(first.file, first.names)
	what := list(names, 4)
	if isProse(first.file) && len(names) > 0 {
		what = list(names, 3)
	}
	if what == "" {
		what = unstop(first.doc)
	}
	if len(reads) == 1 {
		o.Title = "Read " + first.file + ": " + what
		o.Subtitle = first.span()
	} else {
		var files []string
		for _, r := range reads {
			files = append(files, r.file)
		}
		o.Title = "Read " + list(files, 4)
		if dir := path.Dir(first.file); dir != "." && sameDir(reads) {
			for i := range files {
				files[i] = path.Base(files[i])
			}
			o.Title = "Read " + dir + ": " + list(files, 5)
		}
	}
	var docs []string
	for _, r := range reads {
		if r.doc != "" && len(docs) < 3 {
			docs = append(docs, r.doc)
		}
		if len(r.names) > 0 {
			o.Facts = append(o.Facts, r.file+" "+verbFor(r.file)+" "+quoteAll(foremost(r.file, r.names), 10))
		}
	}
	o.Narrative = strings.Join(docs, " ")
	return o
}

func (r fileRead) span() string {
	last := r.from + len(r.text) - 1
	switch {
	case r.from > 1:
		return fmt.Sprintf("lines %d to %d", r.from, last)
	case r.total > len(r.text):
		return fmt.Sprintf("the first %d of %d lines", len(r.text), r.total)
	}
	return ""
}

func sameDir(reads []fileRead) bool {
	for _, r := range reads {
		if path.Dir(r.file) != path.Dir(reads[0].file) {
			return false
		}
	}
	return true
}

func verbFor(file string) string {
	if isProse(file) {
		return "has the sections"
	}
	return "declares"
}

func quoteAll(names []string, limit int) string {
	var out []string
	for _, n := range names {
		out = append(out, quote(n, 60))
	}
	return list(out, limit)
}
