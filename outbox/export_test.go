package outbox

import (
	"context"
	"time"
)

// AppendEvent is for the fuzz test, which compares it with encoding/json.
var AppendEvent = appendEvent

// Passes leads for a while and counts the passes, at most so many.
func Passes(ctx context.Context, r *Relay, d time.Duration, most int) (n int) {
	t := newTerm(r, r.js)
	defer t.wg.Wait()
	for ; n < most && t.now() < d; n++ {
		_ = pause(ctx, t.pass(ctx))
	}
	return n
}
