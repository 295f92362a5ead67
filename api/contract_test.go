package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/api"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
)

// contract is the document that the server gives, ready to hold requests and
// answers against. Whatever goes through world.do is.
type contract struct {
	doc        map[string]any
	compiler   *jsonschema.Compiler
	mu         sync.Mutex // the compiler is for one at a time
	operations []*operation
	problem    *jsonschema.Schema
	frames     map[string]*jsonschema.Schema // of the stream, by the name of the event
}

type operation struct {
	method, path string // as in the document
	pattern      *regexp.Regexp
	id, scope    string // scope as the table has it
	body         map[string]any
	request      *jsonschema.Schema // nil: a body is not looked at
	parameters   []parameter
	answers      map[int]told
}

type parameter struct {
	name, in string
	kind     any // of the schema, to read the text by
	lenient  bool
	schema   *jsonschema.Schema
}

type told struct {
	contents map[string]*jsonschema.Schema // by media type; nil schema: not JSON
	headers  []parameter
	required []string
}

const documentURL = "urn:obs:openapi"

var theContract = sync.OnceValues(func() (*contract, error) {
	rec := httptest.NewRecorder()
	api.New(api.Config{}).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/openapi.json", nil))
	parsed, err := jsonschema.UnmarshalJSON(rec.Body)
	if err != nil {
		return nil, err
	}
	c := &contract{doc: parsed.(map[string]any), compiler: jsonschema.NewCompiler()}
	c.compiler.DefaultDraft(jsonschema.Draft2020)
	c.compiler.AssertFormat()
	if err := c.compiler.AddResource(documentURL, parsed); err != nil {
		return nil, err
	}
	if c.problem, err = c.schema("components", "schemas", "Problem"); err != nil {
		return nil, err
	}
	c.frames = map[string]*jsonschema.Schema{}
	for event, schema := range map[string]string{"job": "JobEvent", "observation": "MadeObservation", "reset": "Reset"} {
		if c.frames[event], err = c.schema("components", "schemas", schema); err != nil {
			return nil, err
		}
	}
	for path, item := range object(c.doc["paths"]) {
		for method, op := range object(item) {
			one, err := c.operation(method, path, object(op))
			if err != nil {
				return nil, fmt.Errorf("%s %s: %w", method, path, err)
			}
			c.operations = append(c.operations, one)
		}
	}
	// What names more of the path goes before what takes any word there.
	slices.SortFunc(c.operations, func(a, b *operation) int {
		return strings.Count(a.path, "{") - strings.Count(b.path, "{")
	})
	return c, nil
})

func object(v any) map[string]any { o, _ := v.(map[string]any); return o }

// schema compiles the schema at a place in the document.
func (c *contract) schema(place ...string) (*jsonschema.Schema, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, p := range place {
		place[i] = strings.ReplaceAll(strings.ReplaceAll(p, "~", "~0"), "/", "~1")
		place[i] = strings.ReplaceAll(strings.ReplaceAll(place[i], "{", "%7B"), "}", "%7D")
	}
	return c.compiler.Compile(documentURL + "#/" + strings.Join(place, "/"))
}

// resolved follows a reference, and gives where it leads.
func (c *contract) resolved(v any, place []string) (map[string]any, []string) {
	o := object(v)
	ref, ok := o["$ref"].(string)
	if !ok {
		return o, place
	}
	place = strings.Split(strings.TrimPrefix(ref, "#/"), "/")
	v = c.doc
	for _, name := range place {
		v = object(v)[name]
	}
	return object(v), place
}

func (c *contract) operation(method, path string, op map[string]any) (_ *operation, err error) {
	place := func(more ...string) []string { return append([]string{"paths", path, method}, more...) }
	id, _ := op["operationId"].(string)
	one := &operation{method: strings.ToUpper(method), path: path, id: id, answers: map[int]told{}}
	one.pattern = regexp.MustCompile("^" + regexp.MustCompile(`\\\{[^}]*\\\}`).ReplaceAllString(regexp.QuoteMeta(path), "[^/]+") + "$")
	if security, _ := op["security"].([]any); len(security) > 0 {
		one.scope = api.AnyKey
		if scopes, _ := object(security[0])["bearer"].([]any); len(scopes) == 1 {
			one.scope, _ = scopes[0].(string)
		}
	}
	if media := object(object(object(op["requestBody"])["content"])["application/json"]); media != nil {
		one.body = object(media["schema"])
		if one.request, err = c.schema(place("requestBody", "content", "application/json", "schema")...); err != nil {
			return nil, err
		}
	}
	list, _ := op["parameters"].([]any)
	for i, p := range list {
		param, at := c.resolved(p, place("parameters", strconv.Itoa(i)))
		read, err := c.parameter(param, at)
		if err != nil {
			return nil, err
		}
		one.parameters = append(one.parameters, read)
	}
	for status, answer := range object(op["responses"]) {
		code, err := strconv.Atoi(status)
		if err != nil {
			return nil, err
		}
		is, at := c.resolved(answer, place("responses", status))
		if one.answers[code], err = c.told(is, at); err != nil {
			return nil, fmt.Errorf("%s: %w", status, err)
		}
	}
	return one, nil
}

func (c *contract) parameter(param map[string]any, at []string) (p parameter, err error) {
	p.name, _ = param["name"].(string)
	p.in, _ = param["in"].(string)
	kind, _ := c.resolved(param["schema"], nil)
	p.kind = kind["type"]
	_, p.lenient = param["x-lenient"]
	p.schema, err = c.schema(append(slices.Clone(at), "schema")...)
	return p, err
}

func (c *contract) told(answer map[string]any, at []string) (told, error) {
	out := told{contents: map[string]*jsonschema.Schema{}}
	for kind := range object(answer["content"]) {
		s, err := c.schema(append(slices.Clone(at), "content", kind, "schema")...)
		if err != nil {
			return out, err
		}
		out.contents[kind] = s
	}
	for name, h := range object(answer["headers"]) {
		header, where := c.resolved(h, append(slices.Clone(at), "headers", name))
		p, err := c.parameter(header, where)
		if err != nil {
			return out, err
		}
		p.name = name
		out.headers = append(out.headers, p)
		if header["required"] == true {
			out.required = append(out.required, name)
		}
	}
	return out, nil
}

// of is the operation that a request is for, nil where there is none.
func (c *contract) of(method, path string) *operation {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	for _, op := range c.operations {
		if op.method == method && op.pattern.MatchString(path) {
			return op
		}
	}
	return nil
}

// unanswered is the status of a client that left. Nobody receives it.
const unanswered = 499

// holds checks a request and its answer.
func (c *contract) holds(t testing.TB, req *http.Request, body string, rec *httptest.ResponseRecorder) {
	t.Helper()
	op := c.of(req.Method, req.URL.EscapedPath())
	status, what := rec.Code, fmt.Sprintf("%s %.100s: %d %.1000s", req.Method, req.URL, rec.Code, rec.Body)
	if status == unanswered {
		return
	}
	if op == nil {
		if status >= 400 {
			fits(t, c.problem, rec.Body.Bytes(), what)
		}
		return
	}
	answer, ok := op.answers[status]
	require.True(t, ok, "the document does not say that this may be: %s", what)
	for _, h := range answer.headers {
		if value := rec.Header().Get(h.name); value != "" {
			require.NoError(t, h.schema.Validate(value), "%s of %s", h.name, what)
		}
	}
	for _, name := range answer.required {
		require.NotEmpty(t, rec.Header().Get(name), "%s of %s", name, what)
	}
	if kind := rec.Header().Get("Content-Type"); rec.Body.Len() > 0 {
		schema, ok := answer.contents[kind]
		if plain, _, err := mime.ParseMediaType(kind); !ok && err == nil {
			kind = plain
			schema, ok = answer.contents[kind]
		}
		require.True(t, ok, "the document has no content %q: %s", kind, what)
		if strings.HasSuffix(kind, "json") {
			fits(t, schema, rec.Body.Bytes(), what)
		}
	} else if req.Method != http.MethodHead {
		require.True(t, len(answer.contents) == 0 || status == http.StatusOK, "no body: %s", what)
	}
	wrong := op.refuses(req, body)
	switch {
	case status < 300:
		// A request that was taken is one that the document lets through; so
		// none that it refuses is taken.
		require.NoError(t, wrong, what)
	case status == http.StatusBadRequest && wrong == nil:
		// And what the door finds wrong, the document says too.
		var told struct {
			Issues []struct {
				Path    []any
				Message string
			}
		}
		require.NoError(t, json.Unmarshal(rec.Body.Bytes(), &told), what)
		for _, issue := range told.Issues {
			if wide(body) && strings.HasSuffix(issue.Message, " bytes") {
				continue // a schema counts characters
			}
			require.NotEmpty(t, beyond[issue.Message], "the document lets this through: %s", what)
		}
	}
}

// wide says whether some character of a JSON text takes more than one byte.
func wide(body string) bool {
	return strings.Contains(body, `\u`) || strings.ContainsFunc(body, func(r rune) bool { return r >= utf8.RuneSelf })
}

// beyond are the issues that a schema cannot have, and why.
var beyond = map[string]string{
	"no mode that this server has":                                          "which modes there are is the server's affair",
	"at least 1 character that is not private":                              "what is private is known after the tags are read",
	"Too big: expected string to have <=65536 bytes, of all parts together": "a schema does not add up",

	"at most 65536 bytes": "of metadata: a schema does not count the bytes of an object",
	"Invalid time: expected RFC 3339, a date, or milliseconds":        "three formats in one",
	"Invalid input: expected an id that this stream has sent":         "only the stream knows what it sends",
	"Invalid input: expected a name of at most 256 bytes without NUL": "a schema counts characters",
}

// doubles makes the numbers of a JSON value what they are in JavaScript and
// here: 1e-400 is nought. One that is no double stays as it is.
func doubles(v any) any {
	switch x := v.(type) {
	case json.Number:
		if f, err := x.Float64(); err == nil {
			return f
		}
	case []any:
		for i := range x {
			x[i] = doubles(x[i])
		}
	case map[string]any:
		for name := range x {
			x[name] = doubles(x[name])
		}
	}
	return v
}

// refuses says what the document finds wrong with a request.
func (op *operation) refuses(req *http.Request, body string) error {
	if op.request != nil {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
		if err != nil {
			return err
		}
		if err := op.request.Validate(doubles(v)); err != nil {
			return err
		}
	}
	for _, p := range op.parameters {
		given := req.Header.Values(p.name)
		if p.in == "query" {
			given = req.URL.Query()[p.name]
		}
		if p.lenient || p.in == "path" || len(given) == 0 {
			continue
		}
		if err := p.schema.Validate(read(given[0], p.kind)); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// read is a parameter's text as its type says.
func read(text string, kind any) any {
	if kind == "boolean" || kind == "integer" {
		if v, err := jsonschema.UnmarshalJSON(strings.NewReader(text)); err == nil {
			return v
		}
	}
	return text
}

func fits(t testing.TB, schema *jsonschema.Schema, body []byte, what string) {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	require.NoError(t, err, what)
	require.NoError(t, schema.Validate(v), what)
}

func compiled(t *testing.T) *contract {
	t.Helper()
	c, err := theContract()
	require.NoError(t, err)
	return c
}

// TestDocument: the document is OpenAPI 3.1, its examples fit its schemas, and
// it has the routes of the table with their scopes, each with an id of its own.
func TestDocument(t *testing.T) {
	t.Parallel()
	c := compiled(t)
	text, err := json.Marshal(c.doc)
	require.NoError(t, err)
	doc, err := openapi3.NewLoader().LoadFromData(text)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(doc.OpenAPI, "3.1."))
	require.NoError(t, doc.Validate(t.Context(), openapi3.EnableExamplesValidation()))
	require.NotContains(t, c.doc, "x-parts")

	var table, told []string
	for _, r := range routes() {
		table = append(table, fmt.Sprintf("%s %s %q", r.Method, regexp.MustCompile(`:(\w+)`).ReplaceAllString(r.Path, "{$1}"), r.Scope))
	}
	ids := map[string]bool{}
	for _, op := range c.operations {
		told = append(told, fmt.Sprintf("%s %s %q", op.method, op.path, op.scope))
		require.NotEmpty(t, op.id)
		require.False(t, ids[op.id], op.id)
		ids[op.id] = true
		for _, name := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(op.path, -1) {
			require.True(t, slices.ContainsFunc(op.parameters, func(p parameter) bool { return p.in == "path" && p.name == name[1] }), op.path)
		}
		if op.scope == "" {
			continue
		}
		for _, status := range []int{401, 403, 500, 503} {
			require.Contains(t, op.answers, status, op.id)
		}
		if strings.HasPrefix(op.path, "/v1/") {
			require.Contains(t, op.answers, 402, op.id)
			require.Contains(t, op.answers, 429, op.id)
		}
	}
	require.ElementsMatch(t, table, told)
}

// TestExamples: what the document shows fits what it says. kin-openapi looks
// at them too, with its own validator of schemas.
func TestExamples(t *testing.T) {
	t.Parallel()
	c := compiled(t)
	n := 0
	var walk func(v any, place []string)
	walk = func(v any, place []string) {
		switch x := v.(type) {
		case map[string]any:
			example, shown := x["example"]
			if _, typed := x["schema"]; shown && typed && !slices.Contains(place, "schemas") {
				s, err := c.schema(append(slices.Clone(place), "schema")...)
				require.NoError(t, err, place)
				require.NoError(t, s.Validate(example), "%v", place)
				n++
			}
			for name, member := range x {
				if name != "example" {
					require.NotNil(t, member, "%v %s: a comma in YAML", place, name)
					walk(member, append(slices.Clone(place), name))
				}
			}
		case []any:
			for i, element := range x {
				walk(element, append(slices.Clone(place), strconv.Itoa(i)))
			}
		}
	}
	walk(c.doc, nil)
	require.Greater(t, n, 50)
}

// TestBounds: the numbers of the document are those of the code.
func TestBounds(t *testing.T) {
	t.Parallel()
	c := compiled(t)
	for place, want := range map[string]any{
		"NewEvent.properties.sourceType.enum": observe.SourceTypes(),
		"JobStatus.enum":                      events.Statuses(),
		"Policy.enum":                         append(observe.Policies(), "server"),
		"Scope.enum":                          observe.Scopes(),
	} {
		var v any = object(object(c.doc["components"])["schemas"])
		for name := range strings.SplitSeq(place, ".") {
			v = object(v)[name]
		}
		require.Equal(t, fmt.Sprint(want), fmt.Sprint(v), place)
	}
}
