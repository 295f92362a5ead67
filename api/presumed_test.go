package api_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/observe"
)

// A key that was good a moment ago is not looked up again before its events
// are stored, but where they are: one that is revoked, or has expired, stores
// nothing, and is told of nothing else that is wrong.
func TestARevokedKeyRecordsNothing(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/v1/events", "/v1/events/batch"} {
		for name, end := range map[string]func(t *testing.T, w *world){
			"revoked": func(t *testing.T, w *world) {
				_, err := w.svc.RevokeKey(t.Context(), w.caller("star"), w.keys["k"].ID)
				require.NoError(t, err)
			},
			"expired": func(t *testing.T, w *world) {
				_, err := w.pool.Exec(t.Context(), "UPDATE api_keys SET expires_at = now() - interval '1 second' WHERE id = $1", w.keys["k"].ID)
				require.NoError(t, err)
			},
			"its team deleted": func(t *testing.T, w *world) {
				_, err := w.pool.Exec(t.Context(), "DELETE FROM teams WHERE id = $1", w.team)
				require.NoError(t, err)
			},
		} {
			t.Run(name+path, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, nil)
				w.issue("k", w.team, w.project, []string{observe.ScopeWrite}, time.Now().Add(time.Hour))
				w.issue("other", w.team, w.project, []string{observe.ScopeWrite}, time.Time{})
				body := func(n string) string {
					if path == "/v1/events" {
						return w.event(n)
					}
					return "[" + w.event(n) + "]"
				}
				post := func(key, body string) answer {
					return w.do(request{method: http.MethodPost, path: path, key: key, body: body})
				}
				require.Equal(t, http.StatusCreated, post("k", body("first")).status)
				require.Equal(t, http.StatusCreated, post("other", body("second")).status)
				require.Equal(t, http.StatusCreated, post("k", body("third")).status, "without being looked up")
				require.Equal(t, http.StatusBadRequest, post("k", `{`).status)
				end(t, w)
				if name == "revoked" {
					require.Equal(t, http.StatusCreated, post("other", body("meanwhile")).status, "another key goes on")
				}
				before := w.rows()
				sent := []string{body("fourth"), body("third"), `{`, body("fifth")}
				if path != "/v1/events" {
					sent[0], sent[2] = sent[2], sent[0] // after the first one it is presumed no more
				}
				for _, sent := range sent {
					refused := post("k", sent)
					require.Equal(t, http.StatusForbidden, refused.status, refused.text)
					require.Contains(t, refused.text, "Invalid API key")
				}
				require.Equal(t, before, w.rows())
			})
		}
	}
}
