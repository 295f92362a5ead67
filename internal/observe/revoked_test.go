package observe_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/observe"
)

// refusedJob begins a job and says why its handler would not do it.
func (w *world) refusedJob(t *testing.T, r observe.Recorded) error {
	t.Helper()
	job := w.claim(t, w.read(t, r.Job.ID))
	_, err := w.Handler(job.Kind)(t.Context(), job)
	return err
}

func (w *world) recordedBy(t *testing.T, c observe.Caller, n int) observe.Recorded {
	t.Helper()
	got, err := w.Record(t.Context(), c, []observe.NewEvent{w.event(n)}, observe.RecordOptions{Generate: true})
	require.NoError(t, err)
	return got[0]
}

// Revoking a key fails what it has asked for. That it expires, or is replaced,
// does not: nobody distrusts what it did before.
func TestARevokedKeysJobsFail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := func() observe.Caller { return w.caller(t, w.team, w.project, observe.ScopeWrite) }
	revoked, rotated, expired, twice := key(), key(), key(), key()

	lost := w.recordedBy(t, revoked, 1)
	_, err := w.RevokeKey(t.Context(), w.me, revoked.KeyID)
	require.NoError(t, err)
	require.EqualError(t, w.refusedJob(t, lost), "revoked_key")
	require.Empty(t, w.provider.questions(), "the provider is not asked")

	kept := w.recordedBy(t, rotated, 2)
	next, _, err := w.RotateKey(t.Context(), w.me, rotated.KeyID)
	require.NoError(t, err)
	require.NoError(t, w.refusedJob(t, kept))
	_, err = w.RevokeKey(t.Context(), w.me, next.ID)
	require.NoError(t, err, "nor does the end of the one that replaced it reach back")

	late := w.recordedBy(t, expired, 3)
	_, err = w.pool.Exec(t.Context(), "UPDATE api_keys SET expires_at = now() - interval '1 h' WHERE id = $1", expired.KeyID)
	require.NoError(t, err)
	require.NoError(t, w.refusedJob(t, late))

	// Somebody else may ask for it, as long as they are trusted themselves.
	again := w.recordedBy(t, twice, 4)
	second := key()
	_, _, err = w.CancelJob(t.Context(), w.me, again.Job.ID)
	require.NoError(t, err)
	_, _, err = w.RetryJob(t.Context(), second, again.Job.ID)
	require.NoError(t, err)
	_, err = w.RevokeKey(t.Context(), w.me, twice.KeyID)
	require.NoError(t, err)
	require.NoError(t, w.refusedJob(t, again))
	other := newWorldOn(t, w.pool) // another process, which has trusted nobody yet
	other.team, other.project, other.me = w.team, w.project, w.me
	_, err = w.RevokeKey(t.Context(), w.me, second.KeyID)
	require.NoError(t, err)
	job := w.read(t, again.Job.ID)
	_, err = other.Handler(job.Kind)(t.Context(), job)
	require.EqualError(t, err, "revoked_key")

	// Whoever has the database needs no key.
	operator := observe.Caller{Actor: "operator", Team: w.team, Project: w.project, Scopes: []string{observe.ScopeAll}}
	require.NoError(t, w.refusedJob(t, w.recordedBy(t, operator, 5)))
	byKey := w.recordedBy(t, key(), 6)
	_, _, err = w.CancelJob(t.Context(), w.me, byKey.Job.ID)
	require.NoError(t, err)
	_, _, err = w.RetryJob(t.Context(), operator, byKey.Job.ID)
	require.NoError(t, err)
	_, err = w.pool.Exec(t.Context(), "UPDATE api_keys SET revoked_at = now() WHERE id = (SELECT payload ->> 'api_key_id' FROM observation_generation_jobs WHERE id = $1)", string(byKey.Job.ID))
	require.NoError(t, err)
	require.NoError(t, w.refusedJob(t, byKey))
}

// A worker takes a key for good for a second. Then it asks.
func TestARevocationIsSeenByAWorkerThatTrustedTheKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.caller(t, w.team, w.project, observe.ScopeWrite)
	w.do(t, w.recordedBy(t, c, 1).Job.ID)
	job := w.claim(t, w.read(t, w.recordedBy(t, c, 2).Job.ID))
	_, err := w.RevokeKey(t.Context(), w.me, c.KeyID)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err := w.Handler(job.Kind)(t.Context(), job)
		return err != nil && err.Error() == "revoked_key"
	}, time.Minute, 20*time.Millisecond)
}
