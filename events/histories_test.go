package events_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
)

// history is a file of testdata/histories: what was stored once, and the job
// that it folds to for ever. Files are added, never changed.
type history struct {
	Job    events.Job     // what it has to fold to
	Events []events.Event // as they were stored
}

func TestOldHistoriesFoldForEver(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/histories/v*/*.json")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 8)
	seen := map[events.Type]bool{}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			b, err := os.ReadFile(file)
			require.NoError(t, err)
			var h history
			require.NoError(t, json.Unmarshal(b, &h))
			got, err := events.Fold(h.Job.Unborn(), slices.Values(h.Events))
			require.NoError(t, err)
			require.Equal(t, h.Job, got)
			for _, e := range h.Events {
				seen[e.Type] = true
			}
		})
	}
	for _, typ := range events.Types() {
		require.True(t, seen[typ], "no history has %s", typ)
	}
}
