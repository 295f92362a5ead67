package observe_test

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/observe"
)

func TestCreateKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key, secret, err := w.CreateKey(t.Context(), w.me, observe.NewKey{Label: "laptop\x00", ExpiresInDays: 30, Scopes: []string{observe.ScopeWrite}})
	require.NoError(t, err)
	require.Equal(t, w.team, key.TeamID)
	require.Equal(t, w.project, key.ProjectID)
	require.Equal(t, "tester", key.ActorID)
	require.Equal(t, "laptop\uFFFD", key.Label)
	require.WithinDuration(t, time.Now().AddDate(0, 0, 30), *key.ExpiresAt, time.Minute)
	random, ok := strings.CutPrefix(secret, "obs_")
	require.True(t, ok)
	b, err := base64.RawURLEncoding.DecodeString(random)
	require.NoError(t, err)
	require.Len(t, b, 32)
	require.Equal(t, secret[:8], key.Prefix)

	var hash []byte
	require.NoError(t, w.pool.QueryRow(t.Context(), "SELECT key_hash FROM api_keys WHERE id = $1", key.ID).Scan(&hash))
	sum := sha256.Sum256([]byte(secret))
	require.Equal(t, sum[:], hash)
	require.NotContains(t, dump(t, w.pool), secret, "the secret is stored nowhere")

	c, err := w.Authenticate(t.Context(), secret)
	require.NoError(t, err)
	require.Equal(t, observe.Caller{KeyID: key.ID, Actor: "tester", Team: w.team, Project: w.project, Scopes: []string{observe.ScopeWrite}, Expires: key.ExpiresAt}, c)

	usual, _, err := w.CreateKey(t.Context(), w.me, observe.NewKey{})
	require.NoError(t, err)
	require.Equal(t, []string{observe.ScopeRead}, usual.Scopes)
	require.Nil(t, usual.ExpiresAt)
	require.Equal(t, 3, w.audited(t, "api_key.create"))
}

func TestABadKeyChangesNoRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	writer := w.caller(t, w.team, w.project, observe.ScopeWrite, observe.ScopeAdmin)
	w.same(t, func() {
		for field, n := range map[string]observe.NewKey{
			"label":         {Label: strings.Repeat("ü", 121)},
			"expiresInDays": {ExpiresInDays: 366},
			"scopes":        {Scopes: []string{"events:write"}},
		} {
			_, _, err := w.CreateKey(t.Context(), w.me, n)
			require.Equal(t, field, as[*observe.Invalid](t, err).Issues[0].Path[0])
		}
		_, _, err := w.CreateKey(t.Context(), w.me, observe.NewKey{ExpiresInDays: -1})
		require.ErrorIs(t, err, observe.ErrInvalid)
		for _, more := range []string{observe.ScopeRead, observe.ScopeAll} {
			_, _, err := w.CreateKey(t.Context(), writer, observe.NewKey{Scopes: []string{more}})
			require.ErrorIs(t, err, observe.ErrForbidden, "nobody can grant what they do not have")
		}
	})
}

func TestAKeyThatExpiresMakesNoneThatOutlivesIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	end := time.Now().Add(36 * time.Hour).UTC().Truncate(time.Microsecond)
	_, secret, err := w.IssueKey(t.Context(), w.team, "", "a", "", []string{observe.ScopeAll}, end)
	require.NoError(t, err)
	c, err := w.Authenticate(t.Context(), secret)
	require.NoError(t, err)
	for _, days := range []int{0, 2} {
		key, _, err := w.CreateKey(t.Context(), c, observe.NewKey{ExpiresInDays: days})
		require.NoError(t, err)
		require.Equal(t, end, key.ExpiresAt.UTC(), "asked for %d days", days)
	}
	sooner, _, err := w.CreateKey(t.Context(), c, observe.NewKey{ExpiresInDays: 1})
	require.NoError(t, err)
	require.True(t, sooner.ExpiresAt.Before(end))
}

func TestAuthenticate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key, secret, err := w.IssueKey(t.Context(), w.team, "", "a", "", []string{observe.ScopeAll}, time.Time{})
	require.NoError(t, err)
	_, expired, err := w.IssueKey(t.Context(), w.team, "", "a", "", nil, time.Now().Add(-time.Second))
	require.NoError(t, err)
	used := func() *time.Time {
		var at *time.Time
		require.NoError(t, w.pool.QueryRow(t.Context(), "SELECT last_used_at FROM api_keys WHERE id = $1", key.ID).Scan(&at))
		return at
	}
	require.Nil(t, used())
	c, err := w.Authenticate(t.Context(), secret)
	require.NoError(t, err)
	require.Empty(t, c.Project)
	first := used()
	require.NotNil(t, first)
	w.same(t, func() {
		_, err = w.Authenticate(t.Context(), secret)
		require.NoError(t, err)
	})
	_, err = w.pool.Exec(t.Context(), "UPDATE api_keys SET last_used_at = now() - interval '2 minutes' WHERE id = $1", key.ID)
	require.NoError(t, err)
	_, err = w.Authenticate(t.Context(), secret)
	require.NoError(t, err)
	require.False(t, used().Before(*first))

	_, err = w.Authenticate(t.Context(), "")
	require.ErrorIs(t, err, observe.ErrNoKey)
	for _, bad := range []string{expired, "obs_nonsense", secret + "x", strings.Repeat("x", 1<<20), "\x00\xff"} {
		_, err = w.Authenticate(t.Context(), bad)
		require.ErrorIs(t, err, observe.ErrBadKey)
	}
	_, err = w.RevokeKey(t.Context(), c, key.ID)
	require.NoError(t, err, "a key may revoke itself")
	_, err = w.Authenticate(t.Context(), secret)
	require.ErrorIs(t, err, observe.ErrBadKey, "at once")
}

func TestRevokeAndRotate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old, oldSecret, err := w.IssueKey(t.Context(), w.team, w.project, "bot", "l", []string{observe.ScopeRead}, time.Now().Add(time.Hour))
	require.NoError(t, err)
	next, secret, err := w.RotateKey(t.Context(), w.me, old.ID)
	require.NoError(t, err)
	require.NotEqual(t, old.ID, next.ID)
	require.Equal(t, []any{old.TeamID, old.ProjectID, old.ActorID, old.Label, old.Scopes, old.ExpiresAt},
		[]any{next.TeamID, next.ProjectID, next.ActorID, next.Label, next.Scopes, next.ExpiresAt})
	_, err = w.Authenticate(t.Context(), oldSecret)
	require.ErrorIs(t, err, observe.ErrBadKey)
	c, err := w.Authenticate(t.Context(), secret)
	require.NoError(t, err)
	_, _, err = w.RotateKey(t.Context(), w.me, old.ID)
	require.ErrorIs(t, err, observe.ErrConflict)

	revoked, err := w.RevokeKey(t.Context(), w.me, next.ID)
	require.NoError(t, err)
	again, err := w.RevokeKey(t.Context(), w.me, next.ID)
	require.NoError(t, err)
	require.Equal(t, revoked.RevokedAt, again.RevokedAt)
	_, err = w.RevokeKey(t.Context(), w.me, "nope")
	require.ErrorIs(t, err, observe.ErrNotFound)

	// A reader may rotate its own key, and nobody else's.
	_, err = w.RevokeKey(t.Context(), c, w.me.KeyID)
	require.ErrorIs(t, err, observe.ErrNoScope)
	self := w.caller(t, w.team, w.project, observe.ScopeRead)
	_, _, err = w.RotateKey(t.Context(), self, self.KeyID)
	require.NoError(t, err)
	admin := w.caller(t, w.team, w.project, observe.ScopeAdmin)
	w.same(t, func() {
		_, _, err = w.RotateKey(t.Context(), admin, w.me.KeyID)
		require.ErrorIs(t, err, observe.ErrForbidden, "the new secret would be worth more than one's own")
	})
	require.Equal(t, 2, w.audited(t, "api_key.rotate"))
}

func TestListKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	second, err := w.CreateProject(t.Context(), w.team, "second")
	require.NoError(t, err)
	other := w.caller(t, w.team, second, observe.ScopeAdmin)
	team := w.caller(t, w.team, "", observe.ScopeAdmin)
	keys, err := w.ListKeys(t.Context(), team)
	require.NoError(t, err)
	require.Len(t, keys, 3)
	keys, err = w.ListKeys(t.Context(), other)
	require.NoError(t, err)
	require.Len(t, keys, 1)
	require.Equal(t, other.KeyID, keys[0].ID)
}

func TestTeamsAndProjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.CreateTeam(t.Context(), " ")
	require.ErrorIs(t, err, observe.ErrInvalid)
	_, err = w.CreateProject(t.Context(), w.team, strings.Repeat("x", 401))
	require.ErrorIs(t, err, observe.ErrInvalid)
	_, err = w.CreateProject(t.Context(), "nope", "p")
	require.ErrorIs(t, err, observe.ErrNotFound)
	_, err = w.CreateProject(t.Context(), w.team, "home")
	require.ErrorIs(t, err, observe.ErrConflict)
	_, _, err = w.IssueKey(t.Context(), "nope", "", "a", "", nil, time.Time{})
	require.ErrorIs(t, err, observe.ErrNotFound)
	_, other := w.tenant(t, "other")
	_, _, err = w.IssueKey(t.Context(), w.team, other, "a", "", nil, time.Time{})
	require.ErrorIs(t, err, observe.ErrForbidden)
	_, _, err = w.IssueKey(t.Context(), w.team, "", "a", "", []string{"all"}, time.Time{})
	require.ErrorIs(t, err, observe.ErrInvalid)

	teams, err := w.ListTeams(t.Context())
	require.NoError(t, err)
	require.Len(t, teams, 2)
	require.Equal(t, w.team, teams[0].ID)
	projects, err := w.ListProjects(t.Context(), "")
	require.NoError(t, err)
	require.Len(t, projects, 2)
	projects, err = w.ListProjects(t.Context(), w.team)
	require.NoError(t, err)
	require.Len(t, projects, 1)
	require.Equal(t, w.project, projects[0].ID)
}

func TestEnsureLocalIsOneForAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	teams, projects := w.count(t, "teams"), w.count(t, "projects")
	var wg sync.WaitGroup
	found := make([][2]string, 8)
	for i := range found {
		wg.Go(func() {
			if team, project, err := w.EnsureLocal(t.Context(), "local"); err == nil {
				found[i] = [2]string{team, project}
			}
		})
	}
	wg.Wait()
	for _, f := range found {
		require.NotEmpty(t, f[0])
		require.Equal(t, found[0], f)
	}
	require.Equal(t, teams+1, w.count(t, "teams"))
	require.Equal(t, projects+1, w.count(t, "projects"))
	_, _, err := w.EnsureLocal(t.Context(), "")
	require.ErrorIs(t, err, observe.ErrInvalid)
}
