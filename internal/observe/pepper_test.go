package observe_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/observe"
)

func peppers(t testing.TB, text string) observe.Peppers {
	t.Helper()
	p, err := observe.ParsePeppers(text)
	require.NoError(t, err)
	return p
}

const (
	oldPepper = "the-old-pepper-0123"
	newPepper = "the-new-pepper-0123"
)

// with is the same database served with other peppers.
func (w *world) with(t testing.TB, p observe.Peppers) *observe.Service {
	t.Helper()
	return observe.New(observe.Config{Pool: w.pool, Jobs: w.jobs, Provider: w.provider, Peppers: p})
}

func (w *world) stored(t testing.TB, id string) (hash []byte, pepper string) {
	t.Helper()
	require.NoError(t, w.pool.QueryRow(t.Context(), "SELECT key_hash, pepper FROM api_keys WHERE id = $1", id).Scan(&hash, &pepper))
	return hash, pepper
}

func TestAKeyIsHashedWithThePepper(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.with(t, peppers(t, newPepper))
	key, secret, err := s.IssueKey(t.Context(), w.team, w.project, "a", "", nil, time.Time{})
	require.NoError(t, err)
	hash, mark := w.stored(t, key.ID)
	mac := hmac.New(sha256.New, []byte(newPepper))
	mac.Write([]byte(secret))
	require.Equal(t, mac.Sum(nil), hash)
	require.NotEmpty(t, mark)
	require.NotContains(t, mark, newPepper)
	c, err := s.Authenticate(t.Context(), secret)
	require.NoError(t, err)
	require.Equal(t, key.ID, c.KeyID)

	for _, other := range []*observe.Service{w.Service, w.with(t, peppers(t, oldPepper))} {
		_, err = other.Authenticate(t.Context(), secret)
		require.ErrorIs(t, err, observe.ErrBadKey, "the database alone is not enough")
	}
}

// Keys from before there was a pepper, and from before it was changed, go on
// working, and are hashed anew when they are used.
func TestPeppersAreRotated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key, secret, err := w.IssueKey(t.Context(), w.team, "", "a", "", nil, time.Time{})
	require.NoError(t, err)
	plain, mark := w.stored(t, key.ID)
	require.Empty(t, mark)

	first := w.with(t, peppers(t, oldPepper))
	_, err = first.Authenticate(t.Context(), secret)
	require.NoError(t, err)
	old, oldMark := w.stored(t, key.ID)
	require.NotEqual(t, plain, old)

	both := w.with(t, peppers(t, newPepper+"\n"+oldPepper))
	_, err = both.Authenticate(t.Context(), secret)
	require.NoError(t, err)
	now, newMark := w.stored(t, key.ID)
	require.NotEqual(t, old, now)
	require.NotEqual(t, oldMark, newMark)
	keys, err := both.ListKeys(t.Context(), w.caller(t, w.team, "", observe.ScopeAdmin))
	require.NoError(t, err)
	require.Contains(t, []string{keys[0].Pepper, keys[1].Pepper, keys[2].Pepper}, newMark, "an operator sees which are left")

	_, err = w.with(t, peppers(t, newPepper)).Authenticate(t.Context(), secret)
	require.NoError(t, err, "the old one can go")
	_, err = both.RevokeKey(t.Context(), w.caller(t, w.team, "", observe.ScopeAdmin), key.ID)
	require.NoError(t, err)
	_, err = both.Authenticate(t.Context(), secret)
	require.ErrorIs(t, err, observe.ErrBadKey)
}

// A key that somebody wrote into the database by its hash is of no use to him
// who does not know the pepper: only an unpeppered hash is, and that is told.
func TestPeppersThatAreNone(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"at least 16": "short", "no pepper": " \n,", "at most 8": strings.Repeat(newPepper+"\n", 9),
	} {
		_, err := observe.ParsePeppers(text)
		require.ErrorContains(t, err, name)
		require.NotContains(t, err.Error(), "short\"")
	}
	require.True(t, peppers(t, newPepper).Any())
	require.False(t, observe.Peppers{}.Any())
}

// FuzzParsePeppers and the keys hashed with what it gives: whatever the text,
// no panic, a hash for each and a plain one, all different.
func FuzzParsePeppers(f *testing.F) {
	for _, text := range []string{newPepper, newPepper + "\n" + oldPepper, "a,b", "\x00\xff" + newPepper, strings.Repeat(",", 50)} {
		f.Add(text, "obs_key")
	}
	f.Fuzz(func(t *testing.T, text, key string) {
		p, err := observe.ParsePeppers(text)
		require.Equal(t, err == nil, p.Any())
		seen := map[string]bool{}
		for _, sum := range p.Hashes(key) {
			require.Len(t, sum, sha256.Size)
			seen[string(sum)] = true
		}
		require.NotEmpty(t, seen)
	})
}

// FuzzAuthenticate shows any key to a server: it is never more than unknown.
func FuzzAuthenticate(f *testing.F) {
	w := newWorld(f)
	s := w.with(f, peppers(f, newPepper))
	for _, key := range []string{"obs_", "obs_\x00", "cmem_0123", "\xff\xfe", "'; DROP TABLE api_keys; --", strings.Repeat("k", 513)} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		_, err := s.Authenticate(t.Context(), key)
		if key == "" {
			require.ErrorIs(t, err, observe.ErrNoKey)
			return
		}
		require.ErrorIs(t, err, observe.ErrBadKey)
	})
}
