package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

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
			_, stop := b.start(t, func(w *pipeline.Worker) {
				pipeline.Handle(w, "a", func(_ context.Context, job events.Job, _ none) (pipeline.Commit, error) {
					return join(job.SourceID), nil
				}, pipeline.Slots(jobs))
			})
			added := 0
			together := func() bool { // how many end at once is up to the scheduler
				mu.Lock()
				defer mu.Unlock()
				return slices.ContainsFunc(calls, func(parts []string) bool { return len(parts) > 1 })
			}
			for until := time.Now().Add(patience); added == 0 || !together() && time.Now().Before(until); {
				ids := make([]events.ID, jobs)
				for i := range ids {
					ids[i] = b.add(t, "a", fmt.Sprint("job ", added+i), func(j *events.Job) { j.MaxAttempts = 1 })
				}
				select {
				case b.bell <- struct{}{}:
				default:
				}
				for i, id := range ids {
					if poison != nil && added+i == 7 {
						require.Contains(t, b.wait(t, id, events.StatusFailed).LastError, "poison")
					} else {
						b.wait(t, id, events.StatusCompleted)
					}
				}
				added += jobs
			}
			require.True(t, together(), "some were written together")
			require.NoError(t, stop())
			written := map[string]int{}
			for _, parts := range calls {
				for _, p := range parts {
					written[p]++
				}
			}
			if poison == nil {
				require.Len(t, written, added)
			} else {
				require.Len(t, written, added-1)
			}
			for p, n := range written {
				require.Equal(t, 1, n, p)
			}
		})
	}
}
