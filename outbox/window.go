package outbox

import "time"

// window says how many of a lane's messages may be on the stream: twice the
// workers' slots, so that none ever waits for the relay, and what the workers
// finish in a moment, so that the relay need not hurry. What is on
// the stream goes before what another tenant asks for next: so not more.
type window struct {
	size     int
	occupied int           // messages on the stream when it was last looked
	upTo     uint64        // the sequence of the last of them, of whatever lane
	added    int           // confirmed, and behind that
	known    bool          // it was looked
	done     int           // messages that went since measured
	measured time.Duration // when rate was last measured
	rate     float64       // messages that go in a second
	wait     time.Duration // before the next look while it is full
	next     time.Duration // no look before
}

const (
	windowMeasure = 200 * time.Millisecond // the shortest time that a rate is measured over: acks come in bursts
	shortestLook  = 2 * time.Millisecond   // the first wait at a full window; it doubles
	longestLook   = 250 * time.Millisecond // … up to this
	ahead         = 0.1                    // seconds of work on the stream, beside what the slots take
	worthwhile    = 0.02                   // seconds of work that are worth a look and a publish of their own
)

// room is how many more messages fit, with those in flight counted.
func (w *window) room(flight int) int { return w.size - w.occupied - w.added - flight }

// confirmed takes in a message that is on the stream. One that came while it was
// looked, and was seen there, is not one more.
func (w *window) confirmed(seq uint64) {
	if seq > w.upTo {
		w.added++
	}
}

// looked takes in how many messages there are, up to a sequence.
func (w *window) looked(now time.Duration, occupied int, upTo uint64) {
	if !w.known {
		w.known, w.measured, w.done = true, now, 0
	} else {
		w.done += w.occupied + w.added - occupied
	}
	w.occupied, w.added, w.upTo = occupied, 0, upTo
	dt := now - w.measured
	if dt < windowMeasure {
		return
	}
	rate := float64(w.done) / dt.Seconds()
	weight := dt.Seconds()
	if rate > w.rate {
		weight *= 5 // too small a window costs speed, too large a one only fairness
	}
	w.rate = max(0, w.rate+(rate-w.rate)*min(1, weight))
	w.measured, w.done = now, 0
}

// forget is for a stream that is gone: another one begins with no messages.
func (w *window) forget() { w.known, w.occupied, w.added, w.upTo = false, 0, 0, 0 }

// resize sets the size by the slots of the workers that live; without any it is
// the floor.
func (w *window) resize(slots, floor, ceiling int) {
	w.size = floor
	if slots > 0 {
		w.size = 2*slots + int(w.rate*ahead)
	}
	w.size = min(w.size, ceiling)
}

// lacks says how many messages more have to go before those that fit are worth
// publishing, while the workers have plenty. Room comes with each message that
// goes; filled at once, the broker is asked and written to for a handful each time.
func (w *window) lacks(room int) int {
	return max(max(1, min(w.size/4, int(w.rate*worthwhile)))-room, 0)
}

// full waits before the next look: until the messages that it lacks should be
// gone, and not longer than a quarter of the window takes to be worked off.
func (w *window) full(now time.Duration, lacks int) {
	w.wait = min(max(2*w.wait, shortestLook), longestLook)
	if w.rate >= 1 {
		take := func(n int) time.Duration { return time.Duration(float64(n) / w.rate * float64(time.Second)) }
		w.wait = min(max(w.wait, take(lacks)), max(shortestLook, take(w.size)/4), longestLook)
	}
	w.next = now + w.wait
}

// fits is the end of waiting.
func (w *window) fits() { w.wait, w.next = 0, 0 }
