package outbox

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
)

// Until all that waits was read, nothing is due that is done only after that.
func TestWhatIsDueBeforeAllWasRead(t *testing.T) {
	t.Parallel()
	r := newTerm(New(nil, nil, nil, Config{}), nil)
	r.take(events.Ask{Row: 1, Envelope: events.Envelope{Job: "j", Kind: "note", Asked: 1, Scope: events.Scope{Team: "t", Project: "p"}}})
	r.readAt, r.delayedAt, r.reclaimAt, r.checkAt = time.Hour, time.Hour, time.Hour, time.Hour
	require.Equal(t, time.Hour, r.nextAsk(), "no sweep")
	at, found := r.nextPublish()
	require.True(t, found)
	require.Equal(t, overview, at)

	r.caughtUp = true
	require.Zero(t, r.nextAsk())
	at, _ = r.nextPublish()
	require.Zero(t, at)
}
