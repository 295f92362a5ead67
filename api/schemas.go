package api

import (
	"fmt"
	"slices"
	"strings"
)

// schema is a schema as the page shows it. What is named is shown by its name,
// which leads to it.
func (r specReader) schema(s ordered) schemaView {
	view := schemaView{About: s.text("description")}
	if ref := s.text("$ref"); ref != "" {
		view.Ref = last(ref)
		if d := s.at("default"); d != nil {
			view.Words = fmt.Sprintf("%v if absent", d)
		}
		return view
	}
	view.Words = words(s)
	if items := s.object("items"); items != nil {
		inner := r.schema(items)
		view.Ref, view.Members = inner.Ref, inner.Members
		if inner.Words != "" {
			view.Words += " of " + inner.Words
		} else {
			view.Words += " of"
		}
	}
	required := s.list("required")
	for _, p := range s.object("properties") {
		member, _ := p.value.(ordered)
		view.Members = append(view.Members, memberView{Name: p.name, Required: slices.Contains(required, any(p.name)), Schema: r.schema(member)})
	}
	if rest := s.object("additionalProperties"); rest != nil {
		view.Members = append(view.Members, memberView{Name: "any name", Schema: r.schema(rest)})
	}
	for _, c := range s.list("oneOf") {
		choice, _ := c.(ordered)
		view.Choices = append(view.Choices, r.schema(choice))
	}
	return view
}

// words says a schema's type and bounds.
func words(s ordered) string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	switch t := s.at("type").(type) {
	case string:
		add("%s", t)
	case []any:
		add("%s", joined(t, " or "))
	}
	if one := s.at("const"); one != nil {
		add("always %v", one)
	}
	if options := s.list("enum"); options != nil {
		add("one of %s", joined(options, ", "))
	}
	for _, b := range []struct{ low, high, unit string }{
		{"minimum", "maximum", ""}, {"minLength", "maxLength", " characters"}, {"minItems", "maxItems", " items"},
	} {
		switch low, high := s.at(b.low), s.at(b.high); {
		case low != nil && high != nil:
			add("%v to %v%s", low, high, b.unit)
		case low != nil:
			add("at least %v%s", low, b.unit)
		case high != nil:
			add("at most %v%s", high, b.unit)
		}
	}
	if f := s.text("format"); f != "" {
		add("%s", f)
	}
	if p := s.text("pattern"); p != "" {
		add("like %s", p)
	}
	if d := s.at("default"); d != nil {
		text, _ := compact(d)
		add("%s if absent", text)
	}
	return strings.Join(out, ", ")
}

func joined(values []any, by string) string {
	texts := make([]string, len(values))
	for i, v := range values {
		if texts[i] = fmt.Sprint(v); texts[i] == "" {
			texts[i] = "nothing"
		}
	}
	return strings.Join(texts, by)
}
