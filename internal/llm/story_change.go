package llm

import (
	"path"
	"strings"
)

// mergeDiffs joins the changes to the same file.
func mergeDiffs(diffs []diff) []diff {
	var out []diff
	at := map[string]int{}
	for _, d := range diffs {
		i, ok := at[d.file]
		if !ok || d.created {
			if ok {
				out[i] = d
				continue
			}
			at[d.file] = len(out)
			out = append(out, d)
			continue
		}
		m := &out[i]
		if m.created {
			// What is edited right after it was written is part of writing it.
			for _, h := range d.hunks {
				m.whole = append(m.whole, h.add...)
			}
			m.hunks = []hunk{{add: m.whole}}
			m.add += d.add - d.del
			continue
		}
		m.hunks = append(append([]hunk{}, m.hunks...), d.hunks...)
		m.add += d.add
		m.del += d.del
	}
	return out
}

// changes writes on the edits that ended no failure: one note for the work on
// a file, its tests included.
func (st *story) changes() {
	type work struct {
		key   string
		diffs []diff
		from  []int
	}
	var works []*work
	for _, e := range st.edits {
		if st.used[e.at] || !e.diff.says() {
			continue
		}
		key := e.diff.file
		if isTest(key) {
			key = tested(key)
		}
		var w *work
		for _, have := range works {
			if have.key == key {
				w = have
			}
		}
		if w == nil {
			w = &work{key: key}
			works = append(works, w)
		}
		w.diffs = append(w.diffs, e.diff)
		w.from = append(w.from, e.at)
	}
	// Files made together in one folder are one thing.
	for i := 0; i < len(works); i++ {
		for j := i + 1; j < len(works); j++ {
			a, b := works[i], works[j]
			if path.Dir(a.key) == path.Dir(b.key) && isNewCode(a.diffs) && isNewCode(b.diffs) {
				a.diffs, a.from = append(a.diffs, b.diffs...), append(a.from, b.from...)
				works = append(works[:j], works[j+1:]...)
				j--
			}
		}
	}
	for _, w := range works {
		st.put(noteEdits(mergeDiffs(w.diffs)), w.from...)
	}
}

func isNewCode(diffs []diff) bool {
	for _, d := range diffs {
		if d.created && !isProse(d.file) && !isTest(d.file) && language(d.file) != ".sql" {
			return true
		}
	}
	return false
}

// tested is the file that a test file is for, by name.
func tested(file string) string {
	for _, mark := range []string{"_test", ".test", ".spec", "_spec"} {
		if i := strings.LastIndex(file, mark+"."); i > 0 {
			return file[:i] + file[i+len(mark):]
		}
	}
	dir, base := path.Split(file)
	return dir + strings.TrimPrefix(base, "test_")
}
