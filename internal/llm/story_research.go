package llm

import (
	"path"
	"strings"
)

// research writes on what was read and looked up. Reading a file to change it
// is part of the change; other reading is told in runs, a folder at a time.
func (st *story) research() {
	changed := map[string]int{} // file → its draft
	for i, d := range st.drafts {
		for _, f := range d.FilesModified {
			changed[f] = i
		}
	}
	var run []fileRead
	var from []int
	flush := func() {
		if len(run) > 0 {
			st.put(noteReads(run), from...)
		}
		run, from = nil, nil
	}
	read := map[string]bool{}
	for i := range st.steps {
		s := &st.steps[i]
		if s.kind != kindTool || isQuiet(s) {
			continue
		}
		var r fileRead
		ok := false
		switch s.tool {
		case "Read", "NotebookRead", "View":
			r, ok = readOf(s)
		case "Bash":
			r, ok = st.shells[i].reads(s)
		default:
			continue
		}
		if d, edited := changed[r.file]; edited && r.file != "" {
			st.drafts[d].from = append(st.drafts[d].from, i)
			continue
		}
		if !ok || read[r.file] {
			continue
		}
		read[r.file] = true
		if len(run) > 0 && (path.Dir(run[0].file) != path.Dir(r.file) || len(run) == 5) {
			flush()
		}
		run, from = append(run, r), append(from, i)
	}
	flush()
}

// reads takes a cat or a sed -n as the reading of a file.
func (sh shell) reads(s *step) (fileRead, bool) {
	c := sh.cmd
	if sh.bad || len(c.words) < 2 || c.prog() != "cat" && c.prog() != "bat" && !(c.prog() == "sed" && c.words[1] == "-n") {
		return fileRead{}, false
	}
	file := c.words[len(c.words)-1]
	if strings.HasPrefix(file, "-") || strings.ContainsAny(file, "*$ ") || !strings.Contains(path.Base(file), ".") {
		return fileRead{}, false
	}
	r := fileRead{file: s.rel(file), text: lines(sh.out), from: 1}
	r.names = declaredIn(r.file, r.text)
	r.doc = docOf(r.file, r.text)
	return r, len(r.names) > 0 || r.doc != ""
}
