package outbox

import "time"

// window says how many of a lane's messages may be on the stream: twice the
// workers' slots, so that none ever waits for the relay, and what the workers
// begin in a second, so that the relay need not hurry.
type window struct {
	size      int
	occupied  int           // messages on the stream when it was last looked
	added     int           // confirmed since then
	at        time.Duration // of that look; 0 means never
	delivered uint64        // deliveries counted by the consumer then
	measured  time.Duration // when rate was last measured
	rate      float64       // deliveries a second
	wait      time.Duration // before the next look while it is full
	next      time.Duration // no look before
}

const (
	windowLook    = time.Second            // how old a look may be while there is something to publish
	windowMeasure = 20 * time.Millisecond  // the shortest time that a rate is measured over
	windowWaitMin = 2 * time.Millisecond   //
	windowWaitMax = 250 * time.Millisecond //
)

// room is how many more messages fit, with those in flight counted.
func (w *window) room(flight int) int { return w.size - w.occupied - w.added - flight }

// looked takes in what the consumer says of itself.
func (w *window) looked(now time.Duration, occupied int, delivered uint64) {
	first := w.at == 0
	w.occupied, w.added, w.at = occupied, 0, max(now, 1)
	switch dt := now - w.measured; {
	case first || delivered < w.delivered: // a new consumer counts from nothing
		w.delivered, w.measured = delivered, now
	case dt >= windowMeasure:
		rate := float64(delivered-w.delivered) / dt.Seconds()
		weight := dt.Seconds()
		if rate > w.rate {
			weight *= 5 // too small a window costs speed, too large a one only fairness
		}
		w.rate += (rate - w.rate) * min(1, weight)
		w.delivered, w.measured = delivered, now
	}
}

// resize sets the size by the slots of the workers that live.
func (w *window) resize(slots, floor, ceiling int) {
	w.size = min(max(2*slots+int(w.rate), floor), ceiling)
}

// full waits before the next look: not longer than a quarter of the window
// takes to be worked off.
func (w *window) full(now time.Duration) {
	w.wait = min(max(2*w.wait, windowWaitMin), windowWaitMax)
	if w.rate >= 1 {
		w.wait = min(w.wait, max(windowWaitMin, time.Duration(float64(w.size)/w.rate/4*float64(time.Second))))
	}
	w.next = now + w.wait
}

// fits is the end of waiting.
func (w *window) fits() { w.wait, w.next = 0, 0 }
