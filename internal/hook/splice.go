package hook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// document is a JSON text that is changed in places: what is not touched
// keeps its order, its blanks and its way of writing things.
type document []byte

// span is a part of a document.
type span struct{ from, to int }

// item is a member of an object or an element of an array.
type item struct {
	name  string
	from  int // where the name, or the element, begins
	value span
}

// list is an object or an array.
type list struct {
	span
	items  []item
	object bool
}

func (l list) find(name string) (span, bool) {
	for _, i := range l.items {
		if i.name == name {
			return i.value, true
		}
	}
	return span{}, false
}

func (d document) whole() span { return span{0, len(d)} }

func (d document) object(at span) (list, error) { return d.list(at, '{') }
func (d document) array(at span) (list, error)  { return d.list(at, '[') }

func (d document) list(at span, kind jsontext.Kind) (list, error) {
	dec := jsontext.NewDecoder(bytes.NewReader(d[at.from:at.to]))
	open, err := dec.ReadToken()
	if err != nil {
		return list{}, fmt.Errorf("%w: %w", ErrSettings, err)
	}
	if open.Kind() != kind {
		return list{}, fmt.Errorf("%w: %s in place of %s", ErrSettings, open.Kind(), kind)
	}
	offset := func() int { return at.from + int(dec.InputOffset()) }
	l := list{span: span{from: offset() - 1}, object: kind == '{'}
	for dec.PeekKind() != kind+2 { // '}' and ']' come two after what they close
		var i item
		raw, err := dec.ReadValue()
		if err != nil {
			return list{}, fmt.Errorf("%w: %w", ErrSettings, err)
		}
		i.from = offset() - len(raw)
		if l.object {
			if err := json.Unmarshal(raw, &i.name); err != nil {
				return list{}, fmt.Errorf("%w: %w", ErrSettings, err)
			}
			if raw, err = dec.ReadValue(); err != nil {
				return list{}, fmt.Errorf("%w: %w", ErrSettings, err)
			}
		}
		i.value = span{offset() - len(raw), offset()}
		l.items = append(l.items, i)
	}
	if _, err := dec.ReadToken(); err != nil {
		return list{}, fmt.Errorf("%w: %w", ErrSettings, err)
	}
	l.to = offset()
	if rest := bytes.TrimSpace(d[l.to:at.to]); len(rest) > 0 {
		return list{}, fmt.Errorf("%w: there is something behind the end", ErrSettings)
	}
	return l, nil
}

// remove takes out an item, and what separates it from the others.
func (d document) remove(l list, i int) []byte {
	cut := span{l.from + 1, l.to - 1}
	switch {
	case i > 0:
		cut = span{l.items[i-1].value.to, l.items[i].value.to}
	case len(l.items) > 1:
		cut = span{l.items[0].from, l.items[1].from}
	}
	return slices.Concat(d[:cut.from], d[cut.to:])
}

// insert puts an item at the end, in the way in which the others are written.
// name is for objects.
func (d document) insert(l list, name string, value any) ([]byte, error) {
	unit := d.unit()
	var before, after string // the blanks in front of the item, and behind it
	at := span{l.from + 1, l.to - 1}
	if n := len(l.items); n > 0 {
		start := l.from + 1
		if n > 1 {
			start = l.items[n-2].value.to + bytes.IndexByte(d[l.items[n-2].value.to:], ',') + 1
		}
		before = string(d[start:l.items[n-1].from])
		at = span{l.items[n-1].value.to, l.items[n-1].value.to}
	} else if unit != "" {
		outer := d.indent(l.from)
		before, after = "\n"+outer+unit, "\n"+outer
	}
	prefix := ""
	if newline := strings.LastIndexByte(before, '\n'); newline >= 0 {
		prefix = before[newline+1:]
	} else {
		unit = "" // on one line, like the others
	}
	text, err := render(value, prefix, unit)
	if err != nil {
		return nil, err
	}
	if l.object {
		key, err := render(name, "", "")
		if err != nil {
			return nil, err
		}
		colon := ":"
		if unit != "" {
			colon = ": "
		}
		text = key + colon + text
	}
	if len(l.items) > 0 {
		before = "," + before
	}
	return slices.Concat(d[:at.from], []byte(before+text+after), d[at.to:]), nil
}

func render(value any, prefix, unit string) (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if unit != "" {
		enc.SetIndent(prefix, unit)
	}
	if err := enc.Encode(value); err != nil {
		return "", fmt.Errorf("write the settings: %w", err)
	}
	return strings.TrimSpace(b.String()), nil
}

// indent is the blanks at the beginning of the line that a place is in.
func (d document) indent(at int) string {
	line := d[bytes.LastIndexByte(d[:at], '\n')+1 : at]
	return string(line[:len(line)-len(bytes.TrimLeft(line, " \t"))])
}

// unit is what a line is further in than the one around it: two blanks, unless
// the document does it in another way; nothing when it is all on one line.
func (d document) unit() string {
	root, err := d.object(d.whole())
	if err != nil || len(root.items) == 0 {
		return "  "
	}
	before := string(d[root.from+1 : root.items[0].from])
	if newline := strings.LastIndexByte(before, '\n'); newline >= 0 {
		return before[newline+1:]
	}
	return ""
}
