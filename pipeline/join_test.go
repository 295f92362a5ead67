package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/pipeline"
)

// Commits of one transaction are written by one call, and a part that cannot
// be written spoils no other.
func TestJoinedCommits(t *testing.T) {
	t.Parallel()
	const jobs = 40
	for name, poison := range map[string]func(){
		"none":  nil,
		"error": func() {},
		"panic": func() { panic("poison") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			var mu sync.Mutex
			var calls [][]string
			join := pipeline.Join(func(_ context.Context, _ pgx.Tx, parts []string) error {
				if poison != nil && slices.Contains(parts, "job 7") {
					poison()
					return errors.New("poison")
				}
				mu.Lock()
				defer mu.Unlock()
				calls = append(calls, parts)
				return nil
			})
			var here sync.WaitGroup
			here.Add(jobs)
			ids := make([]events.ID, jobs)
			for i := range ids {
				ids[i] = b.add(t, "a", fmt.Sprint("job ", i), func(j *events.Job) { j.MaxAttempts = 1 })
			}
			_, stop := b.start(t, func(w *pipeline.Worker) {
				pipeline.Handle(w, "a", func(_ context.Context, job events.Job, _ none) (pipeline.Commit, error) {
					here.Done()
					here.Wait()
					return join(job.SourceID), nil
				}, pipeline.Slots(jobs))
			})
			for i, id := range ids {
				want := events.StatusCompleted
				if poison != nil && i == 7 {
					want = events.StatusFailed
				}
				require.Contains(t, b.wait(t, id, want).LastError, map[bool]string{true: "poison"}[want == events.StatusFailed])
			}
			require.NoError(t, stop())
			written := map[string]int{}
			for _, parts := range calls {
				for _, p := range parts {
					written[p]++
				}
			}
			if poison == nil {
				require.Less(t, len(calls), jobs, "some were written together")
				require.Len(t, written, jobs)
			} else {
				require.Len(t, written, jobs-1)
			}
			for p, n := range written {
				require.Equal(t, 1, n, p)
			}
		})
	}
}
