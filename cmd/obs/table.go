package main

import (
	"fmt"
	"io"
	"strings"
	"unicode"

	"golang.org/x/text/width"
)

// wide is how many columns a line has at most.
const wide = 80

// table prints rows in columns as wide as they have to be; what is longer
// than the line is cut off at its end, in the last column.
func table(w io.Writer, rows [][]string) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			row[i] = plain(cell)
			widths[i] = max(widths[i], columns(row[i]))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			if i < len(row)-1 {
				cell += strings.Repeat(" ", widths[i]-columns(cell)+2)
			}
			b.WriteString(cell)
		}
		fmt.Fprintln(w, strings.TrimRight(cut(b.String(), wide), " "))
	}
}

// cut makes a line of at most n columns of what may be anybody's text.
func cut(s string, n int) string {
	s = plain(s)
	if columns(s) <= n {
		return s
	}
	at := 0
	for i, r := range s {
		if at += runeColumns(r); at >= n { // the last column is for the sign
			return s[:i] + "…"
		}
	}
	return s
}

// plain is one line that does nothing to a terminal but to be written there:
// no escapes, and nothing that turns the line around.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), r == '\u2028', r == '\u2029':
			return -1
		}
		return r
	}, s)
}

// columns is how many columns of a terminal s takes.
func columns(s string) int {
	n := 0
	for _, r := range s {
		n += runeColumns(r)
	}
	return n
}

func runeColumns(r rune) int {
	if unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf) {
		return 0 // it goes onto the one before
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	default: // one column
	}
	return 1
}
