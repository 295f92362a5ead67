package pipeline

import (
	"context"
	"sync"
)

// slots counts the free slots of a lane. Those that become free together are
// taken together: taken one by one, each would be a pull and a claim of its own.
type slots struct {
	mu   sync.Mutex
	free int
	more chan struct{} // told when some became free
}

func newSlots(n int) *slots { return &slots{free: n, more: make(chan struct{}, 1)} }

// take waits for a free slot and takes all that are free, up to a batch. It
// returns 0 when ctx ended.
func (s *slots) take(ctx context.Context) int {
	for {
		s.mu.Lock()
		n := min(s.free, maxBatch)
		s.free -= n
		left := s.free
		s.mu.Unlock()
		if left > 0 {
			s.tell() // another one who takes
		}
		if ctx.Err() != nil {
			s.give(n)
			return 0
		}
		if n > 0 {
			return n
		}
		select {
		case <-s.more:
		case <-ctx.Done():
			return 0
		}
	}
}

func (s *slots) give(n int) {
	if n == 0 {
		return
	}
	s.mu.Lock()
	s.free += n
	s.mu.Unlock()
	s.tell()
}

func (s *slots) tell() {
	select {
	case s.more <- struct{}{}:
	default:
	}
}
