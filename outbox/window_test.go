package outbox

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Nobody has taken a message that was on its way while the stream was looked at.
func TestAMessageThatWasSeenIsCountedOnce(t *testing.T) {
	t.Parallel()
	w := window{size: 10}
	w.looked(0, 0, 40)
	w.confirmed(41)
	w.looked(time.Second, 3, 43) // two more are there, and not confirmed yet
	w.confirmed(42)
	w.confirmed(43)
	w.confirmed(44)
	require.Equal(t, 6, w.room(0))
	w.looked(2*time.Second, 4, 44)
	require.Zero(t, w.rate)
	w.looked(3*time.Second, 1, 44)
	require.Positive(t, w.rate, "three went")
	w.forget()
	w.confirmed(1)
	require.Equal(t, 1, w.added, "of another stream")
}
