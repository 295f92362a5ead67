package llm

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// What models get wrong around and in the JSON that they were asked for.

var thinking = regexp.MustCompile(`(?is)^\s*<(think|thinking|reasoning)>.*?</(?:think|thinking|reasoning)>`)

// unthought drops what a model thought aloud before its answer: there may be
// drafts in it.
func unthought(text string) string {
	return strings.TrimSpace(thinking.ReplaceAllString(text, ""))
}

// maxStarts is how many places of a text are tried as the beginning of JSON.
const maxStarts = 32

// values gives what may be the JSON of the answer: what stands at each brace
// or bracket that nothing before it holds, mended where it is broken. part says
// that it stands behind, and so perhaps in, what could not be mended.
func values(text string, try func(raw json.RawMessage, part bool) (end bool)) {
	part := false
	for range maxStarts {
		at := strings.IndexAny(text, "{[")
		if at < 0 {
			return
		}
		text = text[at:]
		var raw json.RawMessage
		dec := json.NewDecoder(strings.NewReader(text))
		if dec.Decode(&raw) == nil {
			if try(raw, part) {
				return
			}
			text = text[len(raw):] // that was a value, and not the answer
			continue
		}
		if raw = mend(text); raw != nil && try(raw, part) {
			return
		}
		text, part = text[1:], true
	}
}

// mend makes JSON of what almost is: line breaks and tabs in strings, strings in
// single quotes, commas before an end, the words of other languages for true, false and null, and an
// end that is missing, when the last complete member of a list is kept. It
// gives nil where that is not enough.
func mend(text string) json.RawMessage {
	var out strings.Builder
	var open []byte // what is to be closed
	type mark struct {
		length int
		open   []byte
	}
	var whole mark // behind the last complete member
	var quote byte // that ends the string
	escaped, comma := false, false
	for i := 0; i < len(text); i++ {
		c := text[i]
		if quote != 0 {
			switch {
			case escaped:
				escaped = false
			case c == '\\' && quote == '\'' && strings.HasPrefix(text[i+1:], "'"):
				out.WriteByte('\'')
				i++
				continue
			case c == '\\':
				escaped = true
			case c == quote:
				quote, c = 0, '"'
			case c == '"':
				out.WriteByte('\\')
			case c < ' ':
				out.WriteString(map[byte]string{'\n': `\n`, '\t': `\t`}[c])
				continue
			}
			out.WriteByte(c)
			continue
		}
		switch c {
		case ' ', '\t', '\r', '\n':
			continue
		case ',':
			comma = true
			continue
		}
		if comma && c != '}' && c != ']' {
			out.WriteByte(',')
		}
		comma = false
		switch c {
		case '"', '\'':
			quote, c = c, '"'
		case '{', '[':
			open = append(open, c)
		case '}', ']':
			if len(open) == 0 || (open[len(open)-1] == '{') != (c == '}') {
				return nil
			}
			open = open[:len(open)-1]
			out.WriteByte(c)
			if len(open) == 0 {
				return valid(out.String())
			}
			if c == '}' {
				whole = mark{out.Len(), slices.Clone(open)}
			}
			continue
		case 'T', 'F', 'N':
			if word, ok := foreign(text[i:]); ok {
				out.WriteString(map[byte]string{'T': "true", 'F': "false", 'N': "null"}[c])
				i += len(word) - 1
				continue
			}
		}
		out.WriteByte(c)
	}
	if whole.length == 0 {
		return nil
	}
	s := []byte(out.String()[:whole.length])
	for _, c := range slices.Backward(whole.open) {
		s = append(s, c+2) // in ASCII each one's end is two places behind it
	}
	return valid(string(s))
}

func foreign(text string) (string, bool) {
	for _, w := range []string{"True", "False", "None"} {
		if strings.HasPrefix(text, w) {
			if r, _ := utf8.DecodeRuneInString(text[len(w):]); !isWord(r) {
				return w, true
			}
		}
	}
	return "", false
}

func isWord(r rune) bool {
	return r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}

func valid(s string) json.RawMessage {
	if !json.Valid([]byte(s)) {
		return nil
	}
	return json.RawMessage(s)
}

// names are the fields of the schema, by their letters alone: models write
// filesRead and files-read too.
var names = func() map[string]string {
	all := map[string]string{"observation": "observations", "skipped": "skip"}
	for _, n := range []string{
		"observations", "summary", "skip", "type", "title", "subtitle", "narrative", "facts", "concepts", "files_read", "files_modified",
		"events", "request", "investigated", "learned", "completed", "next_steps", "notes",
	} {
		all[letters(n)] = n
	}
	return all
}()

func letters(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || r == ' ' {
			return -1
		}
		return r
	}, strings.ToLower(s))
}

// fields gives an object's members under the names of the schema.
func fields(raw json.RawMessage) map[string]json.RawMessage {
	var all map[string]json.RawMessage
	if json.Unmarshal(raw, &all) != nil {
		return nil
	}
	out := make(map[string]json.RawMessage, len(all))
	for name, v := range all {
		if known, ok := names[letters(name)]; ok {
			if _, twice := out[known]; !twice || known == name {
				out[known] = v
			}
			continue
		}
		out[name] = v
	}
	return out
}
