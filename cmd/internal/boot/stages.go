package boot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
)

// Stages are the parts of a process. They run side by side and stop one after
// the other, in the order in which they were added: whoever takes work in
// goes first, what the others need goes last.
type Stages struct {
	Log    *slog.Logger // nil discards
	stages []*stage
	ended  chan *stage // tells of one that ended by itself
}

type stage struct {
	name string
	stop context.CancelFunc
	done chan struct{}
	err  error // set before done is closed
}

// Go starts a part. It is to return soon after its context has ended; that
// context has ctx's values and does not end with it.
func (s *Stages) Go(ctx context.Context, name string, run func(ctx context.Context) error) {
	if s.ended == nil {
		s.ended = make(chan *stage, 1)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	st := &stage{name: name, stop: stop, done: make(chan struct{})}
	s.stages = append(s.stages, st)
	go func() {
		st.err = run(ctx)
		close(st.done)
		select {
		case s.ended <- st:
		default: // another one was first
		}
	}()
}

// Wait returns when all parts have stopped: after ctx has ended, or one of
// them has, which is an error then. The error is the first that a part gave.
func (s *Stages) Wait(ctx context.Context) error {
	log := s.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	var err error
	select {
	case <-ctx.Done():
	case st := <-s.ended:
		if ctx.Err() == nil {
			err = st.err
			if err == nil {
				err = errors.New("it ended by itself")
			}
			err = fmt.Errorf("%s: %w", st.name, err)
		}
	}
	for _, st := range s.stages {
		st.stop()
		<-st.done
		log.DebugContext(ctx, "stopped", "part", st.name)
		if st.err != nil && !errors.Is(st.err, context.Canceled) && err == nil {
			err = fmt.Errorf("stop %s: %w", st.name, st.err)
		}
	}
	return err
}
