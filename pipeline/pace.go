package pipeline

import "time"

const (
	fast     = 2000                  // attempts a second
	paceOver = 50 * time.Millisecond // the time that is measured over
)

// pace is how fast attempts are finished, so that many that come one by one are
// told from a burst.
type pace struct {
	n     int // since then
	since time.Time
	rate  float64 // before then, a second
}

func (p *pace) saw(n int) {
	p.n += n
	if d := time.Since(p.since); d >= paceOver {
		p.rate = float64(p.n) / d.Seconds()
		p.n, p.since = 0, time.Now()
	}
}

// fast reports whether they come fast, and came a moment ago.
func (p *pace) fast() bool { return p.rate >= fast && time.Since(p.since) < 2*paceOver }
