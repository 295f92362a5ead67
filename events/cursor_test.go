package events_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
)

func ExampleParseCursor() {
	c, err := events.ParseCursor("1795435200000000000-17")
	fmt.Println(time.Unix(0, c.Epoch).UTC().Year(), c.Seq, err)
	// Output: 2026 17 <nil>
}

func FuzzParseCursor(f *testing.F) {
	for _, s := range []string{"", "1-0", "1795435200000000000-18446744073709551615", "-1-2", "0-1", "1", "1-", "+1-2", "01-2", "1-2-3", "1-2\n", "१-२"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := events.ParseCursor(s)
		if err != nil {
			require.Equal(t, events.Cursor{}, c)
			return
		}
		require.Equal(t, s, c.String())
		require.Equal(t, s == "", c.IsZero())
	})
}

func TestCursorAt(t *testing.T) {
	t.Parallel()
	made := time.Date(2026, 11, 23, 1, 2, 3, 456789, time.FixedZone("x", 3600))
	c, err := events.ParseCursor(events.CursorAt(made, 5).String())
	require.NoError(t, err)
	require.Equal(t, events.Cursor{Epoch: made.UnixNano(), Seq: 5}, c)
}
