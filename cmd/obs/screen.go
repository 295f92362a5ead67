package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
)

// screen writes a story in lines. On a terminal its last line is a status
// that is written anew as things change; elsewhere the status is a line of
// its own from time to time.
type screen struct {
	w    io.Writer
	live bool // a terminal that can write a line anew
	dim  func(string) string
	bold func(string) string
	gone func() // called when nobody reads any more

	mu     sync.Mutex
	status string    // what stands there now
	told   string    // the last status that was written as a line
	last   time.Time // when
}

// unwrapped keeps text on one line of a terminal however narrow: what does not
// fit is cut off, or the status could not be written anew.
func unwrapped(text string) string { return "\x1b[?7l" + text + "\x1b[?7h" }

// statusEvery is how often the status is told where it cannot be live.
const statusEvery = 2 * time.Second

func newScreen(std boot.Std) *screen {
	plain := func(s string) string { return s }
	s := &screen{w: std.Stdout, dim: plain, bold: plain, gone: func() {}, last: time.Now()}
	term, _ := std.LookupEnv("TERM")
	if isTerminal(std.Stdout) && term != "dumb" && term != "" {
		s.live = true
		if _, no := std.LookupEnv("NO_COLOR"); !no {
			s.dim = func(s string) string { return "\x1b[2m" + s + "\x1b[0m" }
			s.bold = func(s string) string { return "\x1b[1m" + s + "\x1b[0m" }
		}
	}
	return s
}

func (s *screen) title(format string, args ...any) { s.put(s.bold(fmt.Sprintf(format, args...))) }

func (s *screen) line(format string, args ...any) { s.put(fmt.Sprintf(format, args...)) }

func (s *screen) blank() { s.put("") }

// put writes a line above the status.
func (s *screen) put(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live && s.status != "" {
		line = "\r\x1b[K" + line + "\n" + unwrapped(s.dim(s.status))
	} else {
		line += "\n"
	}
	if _, err := io.WriteString(s.w, line); err != nil {
		s.gone()
	}
}

// now says how things stand.
func (s *screen) now(format string, args ...any) {
	text := cut(fmt.Sprintf(format, args...), wide-1)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case text == s.status:
	case s.live:
		fmt.Fprint(s.w, "\r\x1b[K"+unwrapped(s.dim(text)))
	case time.Since(s.last) >= statusEvery && text != s.told:
		fmt.Fprintln(s.w, text)
		s.told, s.last = text, time.Now()
	}
	s.status = text
}

// still ends the status: what comes now is written below it.
func (s *screen) still() {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.status == "":
		return
	case s.live:
		fmt.Fprintln(s.w)
	case s.status != s.told:
		fmt.Fprintln(s.w, s.status)
	}
	s.status, s.told = "", ""
}

// wrapped writes text at most as wide as the screen, indented; hang is what
// the second line on is indented besides.
func (s *screen) wrapped(indent, hang, text string) {
	for paragraph := range strings.SplitSeq(text, "\n") {
		line, empty := indent, true
		for word := range strings.FieldsSeq(paragraph) {
			if !empty && utf8.RuneCountInString(line)+utf8.RuneCountInString(word) >= wide {
				s.put(line)
				line, empty = indent+hang, true
			}
			if !empty {
				line += " "
			}
			line, empty = line+word, false
		}
		s.put(strings.TrimRight(line, " "))
	}
}
