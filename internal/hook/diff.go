package hook

import (
	"slices"
	"strings"
)

// Diff shows what changes from one text to another: lines that go begin with
// "-", lines that come with "+", and some that stay are around them. It is
// empty when nothing changes.
func Diff(from, to []byte) string {
	a, b := strings.Split(string(from), "\n"), strings.Split(string(to), "\n")
	if slices.Equal(a, b) {
		return ""
	}
	var lines []string // each with its sign
	// The ends that are alike need no table.
	head := 0
	for head < min(len(a), len(b)) && a[head] == b[head] {
		lines = append(lines, " "+a[head])
		head++
	}
	tail := 0
	for tail < min(len(a), len(b))-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	lines = append(lines, middle(a[head:len(a)-tail], b[head:len(b)-tail])...)
	for _, line := range a[len(a)-tail:] {
		lines = append(lines, " "+line)
	}
	return around(lines, 3)
}

// middle compares by the longest common subsequence.
func middle(a, b []string) []string {
	common := make([][]int, len(a)+1)
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := range slices.Backward(a) {
		for j := range slices.Backward(b) {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var lines []string
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			lines = append(lines, " "+a[i])
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1]:
			lines = append(lines, "-"+a[i])
			i++
		default:
			lines = append(lines, "+"+b[j])
			j++
		}
	}
	return lines
}

// around leaves out the lines that stay and are further than n from one that
// does not.
func around(lines []string, n int) string {
	var b strings.Builder
	gap := false
	for i, line := range lines {
		near := slices.ContainsFunc(lines[max(0, i-n):min(len(lines), i+n+1)], func(l string) bool { return l[0] != ' ' })
		switch {
		case near:
			b.WriteString(line + "\n")
			gap = false
		case !gap:
			b.WriteString("…\n")
			gap = true
		}
	}
	return b.String()
}
