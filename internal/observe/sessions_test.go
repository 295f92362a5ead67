package observe_test

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/observe"
)

func TestStartSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := observe.NewSession{
		ProjectID: w.project, ExternalSessionID: new("x\x00"), ContentSessionID: new("c"), AgentID: new("a"), AgentType: new("t"),
		PlatformSource: new("Claude Code"), Metadata: json.RawMessage(`{"prompt":"p","n\u0000":1}`),
	}
	s, created, err := w.StartSession(t.Context(), w.me, n)
	require.NoError(t, err)
	require.True(t, created)
	require.Equal(t, "x\uFFFD", *s.ExternalSessionID)
	require.Equal(t, "claude", *s.PlatformSource)
	require.Equal(t, "idle", s.GenerationStatus)
	require.JSONEq(t, `{"prompt":"p","n`+"\uFFFD"+`":1}`, string(s.Metadata))
	require.Nil(t, s.EndedAt)

	n.Metadata = json.RawMessage(`{"other":1}`)
	again, created, err := w.StartSession(t.Context(), w.me, n)
	require.NoError(t, err)
	require.False(t, created)
	require.Equal(t, s, again, "what has an external id keeps what it was started with")

	read, err := w.Session(t.Context(), w.me, s.ID)
	require.NoError(t, err)
	require.Equal(t, s, read)
	require.Equal(t, 1, w.audited(t, "session.start"))
	require.Equal(t, 1, w.audited(t, "session.write"))

	n.PlatformSource = new("cursor")
	other, created, err := w.StartSession(t.Context(), w.me, n)
	require.NoError(t, err)
	require.True(t, created)
	require.NotEqual(t, s.ID, other.ID)
}

func TestASessionWithoutAnExternalIDTakesOnTheNewMetadata(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := observe.NewSession{ProjectID: w.project, ContentSessionID: new("c"), Metadata: json.RawMessage(`{"a":1}`)}
	s, created, err := w.StartSession(t.Context(), w.me, n)
	require.NoError(t, err)
	require.True(t, created)
	n.Metadata = json.RawMessage(`{"b":2}`)
	again, created, err := w.StartSession(t.Context(), w.me, n)
	require.NoError(t, err)
	require.False(t, created)
	require.Equal(t, s.ID, again.ID)
	require.JSONEq(t, `{"b":2}`, string(again.Metadata))

	for range 2 {
		anonymous, created, err := w.StartSession(t.Context(), w.me, observe.NewSession{ProjectID: w.project})
		require.NoError(t, err)
		require.True(t, created, "what has no id is new each time")
		require.NotEqual(t, s.ID, anonymous.ID)
	}
}

func TestConcurrentStartsMakeOneSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var wg sync.WaitGroup
	ids := make([]string, 10)
	made := make([]bool, len(ids))
	for i := range ids {
		wg.Go(func() {
			s, created, err := w.StartSession(t.Context(), w.me, observe.NewSession{ProjectID: w.project, ExternalSessionID: new("x")})
			if err == nil {
				ids[i], made[i] = s.ID, created
			}
		})
	}
	wg.Wait()
	n := 0
	for i := range ids {
		require.NotEmpty(t, ids[i])
		require.Equal(t, ids[0], ids[i])
		if made[i] {
			n++
		}
	}
	require.Equal(t, 1, n)
	require.Equal(t, 1, w.count(t, "server_sessions"))
}

func TestEndSessionAgainIsTheSame(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(t, "s")
	ended, job, err := w.EndSession(t.Context(), w.me, s.ID)
	require.NoError(t, err)
	require.EqualValues(t, 1, w.rings.Load())
	again, sameJob, err := w.EndSession(t.Context(), w.me, s.ID)
	require.NoError(t, err)
	require.Equal(t, ended, again)
	require.Equal(t, job, sameJob)
	require.EqualValues(t, 1, w.rings.Load(), "nothing new was queued")
	require.Equal(t, 1, w.count(t, "observation_generation_jobs"))
	restarted := w.session(t, "s")
	require.NotNil(t, restarted.EndedAt, "an ended session stays ended")

	_, _, err = w.EndSession(t.Context(), w.me, "nope")
	require.ErrorIs(t, err, observe.ErrNotFound)
	require.Equal(t, "Session not found", as[*observe.Problem](t, err).Message)
	w.check(t)
}

func TestABadSessionChangesNoRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.same(t, func() {
		for field, n := range map[string]observe.NewSession{
			"projectId":         {},
			"externalSessionId": {ProjectID: w.project, ExternalSessionID: new("")},
			"contentSessionId":  {ProjectID: w.project, ContentSessionID: new(strings.Repeat("x", 501))},
			"metadata":          {ProjectID: w.project, Metadata: json.RawMessage(`"text"`)},
		} {
			_, _, err := w.StartSession(t.Context(), w.me, n)
			require.Equal(t, []any{field}, as[*observe.Invalid](t, err).Issues[0].Path)
		}
	})
}
