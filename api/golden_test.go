package api_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"
)

// update writes testdata/routes anew, to be read in the review:
//
//	go test ./api -run TestRoutes -update
var update = flag.Bool("update", false, "write testdata/routes anew")

// golden is what a route's cases answer: status and whole body, with a
// placeholder for what differs from run to run. One that comes twice is the
// same thing.
type golden struct {
	w    *world
	text strings.Builder
	ids  map[string]string
	made int // how many ids were met that are not the world's
}

func (w *world) golden() *golden {
	return &golden{w: w, ids: map[string]string{
		w.team: "{home}", w.foreign: "{away}", w.project: "{one}", w.sibling: "{two}", w.abroad: "{abroad}",
	}}
}

var (
	madeID    = regexp.MustCompile(`\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b|\b(?:ae|ses|event|batch|summary|reindex|evt|evtb|sum|rdx)_[0-9A-Za-z]{16,}\b`)
	secretKey = regexp.MustCompile(`\bobs_[0-9A-Za-z_-]{20,}`)
)

// add takes in the answer to a case.
func (g *golden) add(c check, a answer) {
	t := g.w.t
	t.Helper()
	for name, k := range g.w.keys { // also those made by the case
		g.ids[k.ID] = "{key " + name + "}"
	}
	name := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(c.name, "?"))
	fmt.Fprintf(&g.text, "== %.80s\n", g.words(name))
	kind := a.header.Get("Content-Type")
	switch {
	case a.text == "":
		fmt.Fprintf(&g.text, "%d\n", a.status)
	case kind == "application/problem+json":
		g.text.WriteString(g.problem(a))
	case !strings.HasSuffix(kind, "json"):
		text := g.words(a.text)
		if len(text) > 1000 { // a page, or the list of tools: they have tests of their own
			text = "…"
		}
		fmt.Fprintf(&g.text, "%d %s\n%s\n", a.status, kind, strings.TrimSpace(text))
	default:
		var v any
		require.NoError(t, json.Unmarshal([]byte(a.text), &v), a.text)
		if _, document := v.(map[string]any)["openapi"]; document {
			v = map[string]any{"openapi": "…"}
		}
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		require.NoError(t, enc.Encode(g.plain("", v)))
		fmt.Fprintf(&g.text, "%d\n%s", a.status, b.String())
	}
}

// problem checks that nothing is in a problem document but what its status,
// error, message, issues and numbers make of it, and gives these.
func (g *golden) problem(a answer) string {
	t := g.w.t
	t.Helper()
	var got struct {
		Err, Message string
		Issues       []map[string]any
		Used, Cap    *int64
	}
	got.Err, got.Message = a.str("error"), a.str("message")
	require.NoError(t, json.Unmarshal([]byte(a.text), &struct {
		Issues *[]map[string]any `json:"issues"`
		Used   **int64           `json:"used"`
		Cap    **int64           `json:"cap"`
	}{&got.Issues, &got.Used, &got.Cap}))
	id := a.header.Get("X-Request-Id")
	whole := map[string]any{
		"error": got.Err, "message": got.Message, "detail": got.Message, "type": "about:blank", "title": http.StatusText(a.status),
		"status": a.status, "instance": "urn:obs:request:" + id, "requestId": id,
	}
	var out strings.Builder
	out.WriteString(fmt.Sprintf("%d %s: %.300s\n", a.status, got.Err, g.words(got.Message)))
	if got.Issues != nil {
		whole["issues"] = got.Issues
		for i, issue := range got.Issues {
			if i == 5 {
				out.WriteString(fmt.Sprintf("  … %d more\n", len(got.Issues)-i))
				break
			}
			line, err := json.Marshal(issue)
			require.NoError(t, err)
			out.WriteString("  " + string(line) + "\n")
		}
	}
	if got.Used != nil {
		whole["used"], whole["cap"] = *got.Used, *got.Cap
		out.WriteString(fmt.Sprintf("  used %d, cap %d\n", *got.Used, *got.Cap))
	}
	want, err := json.Marshal(whole)
	require.NoError(t, err)
	require.JSONEq(t, string(want), a.text)
	return out.String()
}

// plain puts placeholders into a JSON value. name is the member that it is of.
func (g *golden) plain(name string, v any) any {
	switch x := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for _, k := range slices.Sorted(maps.Keys(x)) { // in order, so that the same things get the same numbers
			out[g.words(k)] = g.plain(k, x[k])
		}
		return out
	case []any:
		if n := len(x); n > 5 { // of 500 events
			return []any{g.plain(name, x[0]), fmt.Sprintf("{%d more}", n-2), g.plain(name, x[n-1])}
		}
		out := make([]any, len(x))
		for i := range x {
			out[i] = g.plain(name, x[i])
		}
		return out
	case float64:
		return numbers(name, x)
	case string:
		switch name {
		case "prefix", "platform":
			return "{" + name + "}"
		case "since":
			return "{month}"
		case "monthEnds":
			return "{next month}"
		case "nextCursor":
			return "{row}"
		}
		if g.numbered(name, x) {
			return "{row}"
		}
		if at, err := time.Parse(time.RFC3339Nano, x); err == nil {
			return when(at)
		}
		return g.words(x)
	}
	return v
}

// numbered reports whether it is the id of a row that has a number.
func (g *golden) numbered(name, text string) bool {
	return name == "id" && regexp.MustCompile(`^\d+$`).MatchString(text)
}

func numbers(name string, x float64) any {
	switch name {
	case "pid", "uptime", "oldestWaitingMs":
		return "{" + name + "}"
	}
	if strings.HasSuffix(name, "Epoch") {
		if s := when(time.UnixMilli(int64(x))); s != "{then}" {
			return s
		}
	}
	return x
}

// when is a time in words, for it differs from run to run.
func when(at time.Time) string {
	days := time.Until(at).Hours() / 24
	switch {
	case days > -0.5 && days < 0.5:
		return "{now}"
	case days > 0 && days < 400:
		return fmt.Sprintf("{in %.0f days}", days)
	}
	return "{then}"
}

func (g *golden) words(s string) string {
	for id, name := range g.ids {
		if !strings.HasPrefix(name, "{id ") {
			s = strings.ReplaceAll(s, id, name)
		}
	}
	s = secretKey.ReplaceAllString(s, "{secret}")
	return madeID.ReplaceAllStringFunc(s, func(id string) string {
		if g.ids[id] == "" {
			g.made++
			g.ids[id] = fmt.Sprintf("{id %d}", g.made)
		}
		return g.ids[id]
	})
}

func goldenFile(route string) string {
	name := strings.NewReplacer(" /", "_", "/", "_", ":", "").Replace(route)
	return filepath.Join("testdata", "routes", strings.Trim(name, "_")+".txt")
}

// verify compares with what is kept.
func (g *golden) verify(t *testing.T, route string) {
	t.Helper()
	file := goldenFile(route)
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(g.text.String()), 0o644))
		return
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), g.text.String(), "see -update")
}
