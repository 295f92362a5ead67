package api

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"slices"
	"strings"
	"sync"

	"github.com/labstack/echo/v4"
)

var (
	//go:embed pages.html
	pagesSource string
	//go:embed pages.css
	pagesStyle string

	pages = template.Must(template.New("pages").Parse(pagesSource))
	// landing is GET /, reference is GET /docs.
	landing   = rendered("landing", func() (any, error) { return nil, nil })
	reference = rendered("reference", func() (any, error) {
		doc, err := document()
		if err != nil {
			return nil, err
		}
		return referenceOf(doc), nil
	})
	// pagePolicy lets a page have its style, and nothing else: no script, no
	// image, no frame, no form, nothing from elsewhere.
	pagePolicy = func() string {
		sum := sha256.Sum256([]byte(pagesStyle))
		return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
			"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	}()
)

// rendered makes a page once, when it is first asked for.
func rendered(name string, load func() (any, error)) func() ([]byte, error) {
	return sync.OnceValues(func() ([]byte, error) {
		data, err := load()
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		err = pages.ExecuteTemplate(&b, name, map[string]any{"Style": template.CSS(pagesStyle), "Data": data}) //nolint:gosec // it is ours
		return b.Bytes(), err
	})
}

// page serves a page that is the same for everybody.
func page(html func() ([]byte, error)) echo.HandlerFunc {
	return func(c echo.Context) error {
		body, err := html()
		if err != nil {
			return fmt.Errorf("make the page: %w", err)
		}
		h := c.Response().Header()
		h.Set(echo.HeaderContentSecurityPolicy, pagePolicy)
		h.Set(echo.HeaderCacheControl, "no-cache")
		if unchanged(c, 200, body) {
			return c.NoContent(304)
		}
		return c.Blob(200, "text/html; charset=utf-8", body)
	}
}

// What the template of the reference shows.
type (
	referenceView struct {
		Title, Summary, About string
		Groups                []groupView
		Answers               []answerView // those that many routes give
		Schemas               []schemaView
	}
	groupView struct {
		Name, About string
		Routes      []routeView
	}
	routeView struct {
		ID, Method, Path, Summary, About, Key, Curl string
		Parameters                                  []memberView
		Body                                        *contentView
		Answers                                     []answerView
	}
	answerView struct {
		Status, Ref, About string
		Headers            []memberView
		Contents           []contentView
	}
	contentView struct {
		Type, Example string
		Schema        schemaView
	}
	// schemaView is a schema in a few words, and what is in it.
	schemaView struct {
		Name, Ref, Words, About string
		Members                 []memberView
		Choices                 []schemaView
	}
	memberView struct {
		Name, In string
		Required bool
		Schema   schemaView
	}
)

// specReader looks things up in the document for the page.
type specReader struct{ doc ordered }

func referenceOf(doc ordered) referenceView {
	r := specReader{doc}
	view := referenceView{Title: doc.text("info", "title"), Summary: doc.text("info", "summary"), About: doc.text("info", "description")}
	for _, tag := range doc.list("tags") {
		t, _ := tag.(ordered)
		view.Groups = append(view.Groups, groupView{Name: t.text("name"), About: t.text("description")})
	}
	for _, path := range doc.object("paths") {
		item, _ := path.value.(ordered)
		for _, method := range item {
			op, _ := method.value.(ordered)
			route := r.route(strings.ToUpper(method.name), path.name, op)
			for i := range view.Groups {
				if slices.Contains(op.list("tags"), any(view.Groups[i].Name)) {
					view.Groups[i].Routes = append(view.Groups[i].Routes, route)
				}
			}
		}
	}
	for _, a := range doc.object("components", "responses") {
		shared, _ := a.value.(ordered)
		one := r.answer(shared)
		one.Ref = a.name
		view.Answers = append(view.Answers, one)
	}
	for _, s := range doc.object("components", "schemas") {
		one, _ := s.value.(ordered)
		shown := r.schema(one)
		shown.Name = s.name
		view.Schemas = append(view.Schemas, shown)
	}
	return view
}

// resolved follows a reference into the document.
func (r specReader) resolved(v any) ordered {
	o, _ := v.(ordered)
	if ref := o.text("$ref"); ref != "" {
		return r.doc.object(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
	}
	return o
}

func (r specReader) route(method, path string, op ordered) routeView {
	view := routeView{
		ID: op.text("operationId"), Method: method, Path: path, Summary: op.text("summary"), About: op.text("description"),
		Key: key(op), Curl: r.curl(method, path, op),
	}
	for _, p := range op.list("parameters") {
		param := r.resolved(p)
		s := r.schema(param.object("schema"))
		s.About = strings.TrimSpace(param.text("description") + " " + param.text("x-lenient"))
		required, _ := param.at("required").(bool)
		view.Parameters = append(view.Parameters, memberView{param.text("name"), param.text("in"), required, s})
	}
	if contents := r.contents(op.object("requestBody", "content")); len(contents) > 0 {
		view.Body = &contents[0]
		if named := op.at("requestBody", "content", "application/json", "schema"); view.Body.Schema.Ref != "" {
			view.Body.Schema.Members = r.schema(r.resolved(named)).Members
		}
	}
	for _, a := range op.object("responses") {
		told, _ := a.value.(ordered)
		one := answerView{Ref: last(told.text("$ref")), About: r.resolved(told).text("description")}
		if one.Ref == "" {
			one = r.answer(told)
		}
		one.Status = a.name
		view.Answers = append(view.Answers, one)
	}
	slices.SortStableFunc(view.Answers, func(a, b answerView) int { return strings.Compare(a.Status, b.Status) })
	return view
}

func (r specReader) answer(told ordered) answerView {
	one := answerView{About: told.text("description"), Contents: r.contents(told.object("content"))}
	for _, h := range told.object("headers") {
		header := r.resolved(h.value)
		s := r.schema(header.object("schema"))
		s.About = header.text("description")
		one.Headers = append(one.Headers, memberView{Name: h.name, Schema: s})
	}
	return one
}

// last is the name that a reference leads to.
func last(ref string) string { return ref[strings.LastIndex(ref, "/")+1:] }

// key is what the operation asks for, in words.
func key(op ordered) string {
	ways := op.list("security")
	if len(ways) == 0 {
		return ""
	}
	if scopes := ways[0].(ordered).list("bearer"); len(scopes) > 0 {
		return fmt.Sprint(scopes[0])
	}
	return "any"
}

func (r specReader) contents(in ordered) []contentView {
	var views []contentView
	for _, p := range in {
		media, _ := p.value.(ordered)
		views = append(views, contentView{p.name, pretty(media.at("example")), r.schema(media.object("schema"))})
	}
	return views
}

func pretty(example any) string {
	switch x := example.(type) {
	case nil:
		return ""
	case string:
		return x
	}
	b, err := compact(example)
	var out bytes.Buffer
	if err != nil || json.Indent(&out, b, "", "  ") != nil {
		return ""
	}
	return out.String()
}

func compact(v any) ([]byte, error) {
	var b, out bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	err := json.Compact(&out, b.Bytes())
	return out.Bytes(), err
}

// curl is the operation on a command line, with the examples filled in.
func (r specReader) curl(method, path string, op ordered) string {
	words := []string{"curl"}
	if more := op.text("x-curl"); more != "" {
		words = append(words, more)
	}
	if key(op) != "" {
		words = append(words, `-H "Authorization: Bearer $OBS_KEY"`)
	}
	body := op.at("requestBody", "content", "application/json", "example")
	if method != "GET" && (method != "POST" || body == nil) {
		words = append(words, "-X", method)
	}
	query := ""
	for _, p := range op.list("parameters") {
		param := r.resolved(p)
		example := param.text("example")
		switch {
		case example == "":
		case param.text("in") == "path":
			path = strings.Replace(path, "{"+param.text("name")+"}", example, 1)
		case param.text("in") == "query" && query == "":
			query = "?" + param.text("name") + "=" + example
		}
	}
	words = append(words, `"$OBS_URL`+path+query+`"`)
	if text, err := compact(body); err == nil && body != nil {
		words = append(words, "-d '"+strings.ReplaceAll(string(text), "'", `'\''`)+"'")
	}
	return strings.Join(words, " ")
}
