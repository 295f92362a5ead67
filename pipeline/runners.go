package pipeline

import (
	"runtime"
	"sync"
)

// runners are the goroutines of a lane's brief attempts. One takes attempt after
// attempt, so that those whose handlers do not wait for anything share a
// goroutine and its stack: to make one for each costs more than many a handler.
// Before a handler runs, which may wait for as long as it likes, there is
// another runner on its way, if there is more to run. That one begins as soon as
// a processor has nothing else to do.
type runners struct {
	mu      sync.Mutex
	waiting []*attempt
	coming  bool // one was started that has taken nothing yet
}

func (r *runners) add(as []*attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = append(r.waiting, as...)
	r.more()
}

// more starts a runner if there is something for it. The caller holds mu.
func (r *runners) more() {
	if len(r.waiting) > 0 && !r.coming {
		r.coming = true
		go r.run()
	}
}

func (r *runners) run() {
	growStack()
	r.mu.Lock()
	r.coming = false
	for len(r.waiting) > 0 {
		a := r.waiting[0]
		r.waiting[0], r.waiting = nil, r.waiting[1:]
		r.more()
		r.mu.Unlock()
		a.run(a.ctx)
		r.mu.Lock()
	}
	r.mu.Unlock()
}

// growStack grows it once, while there is nothing on it: of a handler of
// microseconds, a tenth went into growing it step by step.
//
//go:noinline
func growStack() {
	var room [8 << 10]byte
	runtime.KeepAlive(&room)
}
