package outbox

import (
	"context"
	"time"

	"github.com/seed-245eaa15/obs/events"
)

// AppendEvent is for the fuzz test, which compares it with encoding/json, and
// AppendNext for what compares that with it.
var (
	AppendEvent = appendEvent
	AppendNext  = appendNext
)

// MostNamed is how many jobs a ring names.
const MostNamed = mostNamed

// NamesIn reads what a ring names, and whether that is all.
func NamesIn(lines string) (asks []events.Envelope, all bool) {
	n := namesIn(lines)
	return n.asks, !n.other
}

// Passes leads for a while and counts the passes, at most so many.
func Passes(ctx context.Context, r *Relay, d time.Duration, most int) (n int) {
	t := newTerm(r, r.js)
	defer t.wg.Wait()
	for ; n < most && t.now() < d; n++ {
		_ = pause(ctx, t.pass(ctx))
	}
	return n
}
