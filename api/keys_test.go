package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/observe"
)

func init() {
	routeCases["POST /v1/keys"] = createKeyCases
	routeCases["GET /v1/keys"] = listKeysCases
	routeCases["POST /v1/keys/:id/revoke"] = revokeCases("POST", "/revoke")
	routeCases["DELETE /v1/keys/:id"] = revokeCases("DELETE", "")
}

func createKeyCases(w *world) []check {
	post := func(key, body string) request { return request{key: key, body: body} }
	invalid := func(body, name string) check {
		return check{name: body, request: post("team", body), want: 400, has: map[string]any{"error": "ValidationError", "issues.0.path.0": name}}
	}
	return append(badBodies(false),
		invalid(`{"label":7}`, "label"), invalid(`{"label":"`+strings.Repeat("x", 121)+`"}`, "label"),
		invalid(`{"expiresInDays":0}`, "expiresInDays"), invalid(`{"expiresInDays":366}`, "expiresInDays"), invalid(`{"expiresInDays":"1"}`, "expiresInDays"),
		invalid(`{"scopes":"memories:read"}`, "scopes"), invalid(`{"scopes":[]}`, "scopes"), invalid(`{"scopes":[7]}`, "scopes"),
		check{name: "more than the caller has", request: post("team", `{"scopes":["*"]}`), want: 403, has: map[string]any{"error": "Forbidden"}},
		check{
			name: "good", request: post("project", `{"label":"laptop","expiresInDays":30}`), want: 201,
			has: map[string]any{"label": "laptop", "teamId": w.team, "projectId": w.project, "scopes": []any{"memories:read"}}, says: `"apiKey":"`,
		},
		check{name: "for ever", request: post("team", `{}`), want: 201, has: map[string]any{"expiresAt": nil, "projectId": nil}},
	)
}

func listKeysCases(w *world) []check {
	w.issue("chief", w.foreign, "", []string{observe.ScopeAdmin}, time.Time{})
	return []check{
		{name: "good", request: request{key: "star"}, want: 200, says: w.keys["project"].ID, has: map[string]any{"keys.0.status": "revoked", "keys.1.status": "expired", "keys.2.status": "active", "keys.0.label": "revoked"}},
		{name: "another team's are not in it", request: request{key: "chief"}, want: 200, has: map[string]any{"keys.0.id": w.keys["chief"].ID, "keys.1.id": w.keys["foreign"].ID, "keys.2": missing{}}},
	}
}

func revokeCases(method, suffix string) func(w *world) []check {
	return func(w *world) []check {
		path := func(key string) string { return "/v1/keys/" + w.keys[key].ID + suffix }
		w.issue("chief", w.foreign, "", []string{observe.ScopeAdmin}, time.Time{})
		w.issue("narrow", w.team, w.sibling, []string{observe.ScopeAdmin}, time.Time{})
		return []check{
			{name: "by another project's key", request: request{path: path("project"), key: "narrow"}, want: 404, has: map[string]any{"message": "Key not found"}},
			{name: "by another team", request: request{path: path("team"), key: "chief"}, want: 404, has: map[string]any{"error": "NotFound", "message": "Key not found"}},
			{name: "without the scope", request: request{path: path("project"), key: "team"}, want: 403, has: map[string]any{"message": "Invalid API key or insufficient scope"}},
			{name: "good", request: request{method: method, path: path("expired"), key: "star"}, want: 200, has: map[string]any{"id": w.keys["expired"].ID, "status": "revoked"}},
			{name: "again", request: request{method: method, path: path("expired"), key: observe.ScopeAdmin}, want: 200},
			{name: "itself", request: request{method: method, path: path(observe.ScopeRead), key: observe.ScopeRead}, want: 200},
			{name: "and then no more", request: request{method: method, path: path(observe.ScopeRead), key: observe.ScopeRead}, want: 403},
		}
	}
}

// TestKeyLife: a key works from the moment it is made to the moment it is
// revoked, and its secret is shown once.
func TestKeyLife(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	made := w.do(request{method: "POST", path: "/v1/keys", key: "team", body: `{"label":"ci"}`})
	require.Equal(t, http.StatusCreated, made.status, made.text)
	w.secrets["made"] = made.str("apiKey")
	use := request{method: "GET", path: "/v1/jobs", key: "made"}
	require.Equal(t, http.StatusOK, w.do(use).status)

	list := w.do(request{method: "GET", path: "/v1/keys", key: "star"})
	require.Equal(t, http.StatusOK, list.status, list.text)
	require.Contains(t, list.text, made.str("id"))
	require.NotContains(t, list.text, made.str("apiKey"))

	gone := w.do(request{method: "DELETE", path: "/v1/keys/" + made.str("id"), key: "star"})
	require.Equal(t, http.StatusOK, gone.status, gone.text)
	require.Equal(t, http.StatusForbidden, w.do(use).status)
	require.Empty(t, w.log.of(made.str("apiKey")), "a secret is in the log")
}
