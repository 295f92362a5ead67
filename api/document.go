package api

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/labstack/echo/v4"
	"go.yaml.in/yaml/v3"
)

//go:embed openapi.yaml
var openapiSource []byte

// partsMember is where the source keeps what its operations share.
const partsMember = "x-parts"

// document is the OpenAPI document, read once. Its members stand as in the
// source, which is the order in which people read them.
var document = sync.OnceValues(func() (ordered, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(openapiSource, &root); err != nil {
		return nil, fmt.Errorf("read openapi.yaml: %w", err)
	}
	value, err := plainNode(root.Content[0])
	if err != nil {
		return nil, fmt.Errorf("read openapi.yaml: %w", err)
	}
	doc, _ := value.(ordered)
	return slices.DeleteFunc(doc, func(p pair) bool { return p.name == partsMember }), nil
})

var documentJSON = sync.OnceValues(func() (json.RawMessage, error) {
	doc, err := document()
	if err != nil {
		return nil, err
	}
	return json.Marshal(doc)
})

// getDocument serves GET /openapi.json.
func getDocument(c echo.Context) error {
	doc, err := documentJSON()
	if err != nil {
		return err
	}
	c.Response().Header().Set(echo.HeaderCacheControl, "no-cache") // it may be kept, if it is asked about
	return write(c, 200, echo.MIMEApplicationJSON, doc)
}

// ordered is a JSON object whose members have an order.
type ordered []pair

type pair struct {
	name  string
	value any // ordered, []any, or what encoding/json makes of a scalar
}

// at is the member at a path of names, nil where there is none.
func (o ordered) at(names ...string) any {
	var v any = o
	for _, name := range names {
		in, _ := v.(ordered)
		i := slices.IndexFunc(in, func(p pair) bool { return p.name == name })
		if i < 0 {
			return nil
		}
		v = in[i].value
	}
	return v
}

func (o ordered) text(names ...string) string { s, _ := o.at(names...).(string); return s }
func (o ordered) list(names ...string) []any  { l, _ := o.at(names...).([]any); return l }

func (o ordered) object(names ...string) ordered {
	in, _ := o.at(names...).(ordered)
	return in
}

// MarshalJSON writes the members in their order.
func (o ordered) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for i, p := range o {
		b.WriteByte("{,"[min(i, 1)])
		if err := enc.Encode(p.name); err != nil {
			return nil, err
		}
		b.WriteByte(':')
		if err := enc.Encode(p.value); err != nil {
			return nil, err
		}
	}
	if len(o) == 0 {
		b.WriteByte('{')
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// plainNode is a YAML node without what only YAML has: aliases and merges.
func plainNode(n *yaml.Node) (any, error) {
	switch n.Kind {
	case yaml.AliasNode:
		return plainNode(n.Alias)
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, e := range n.Content {
			var err error
			if list[i], err = plainNode(e); err != nil {
				return nil, err
			}
		}
		return list, nil
	case yaml.MappingNode:
		return plainMapping(n)
	default:
		var v any
		if err := n.Decode(&v); err != nil {
			return nil, fmt.Errorf("line %d: %w", n.Line, err)
		}
		return v, nil
	}
}

// plainMapping merges as YAML says: a mapping's own members count before those
// that are merged in, and among these the first.
func plainMapping(n *yaml.Node) (ordered, error) {
	var own, merged ordered
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		v, err := plainNode(value)
		if err != nil {
			return nil, err
		}
		if key.Tag != "!!merge" {
			if own.at(key.Value) != nil {
				return nil, fmt.Errorf("line %d: %s stands here twice", key.Line, key.Value)
			}
			own = append(own, pair{key.Value, v})
			continue
		}
		parts, ok := v.([]any)
		if !ok {
			parts = []any{v}
		}
		for _, part := range parts {
			in, ok := part.(ordered)
			if !ok {
				return nil, fmt.Errorf("line %d: what is merged is no mapping", key.Line)
			}
			merged = append(merged, in...)
		}
	}
	out := ordered{}
	for _, p := range merged {
		if !slices.ContainsFunc(append(slices.Clone(own), out...), func(have pair) bool { return have.name == p.name }) {
			out = append(out, p)
		}
	}
	return append(out, own...), nil
}
