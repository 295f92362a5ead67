package cmd_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Two relays lead at once: the server ends the session whose lock makes one
// the leader, which it learns a second later, when the other leads already.
func TestF06TwoRelaysLead(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	s.server()
	a, b := s.relay(), s.relay()
	s.worker()
	leads := func(p *proc) bool {
		_, body := get(t, p.url+"/v1/info", "")
		var info struct{ Leader bool }
		require.NoError(t, json.Unmarshal(body, &info), "%s", body)
		return info.Leader
	}
	both := 0
	for round := range 6 {
		s.send(100*round, 50)
		s.eventually("one leads", func() bool { return leads(a) || leads(b) })
		s.sql(`SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
			WHERE l.locktype = 'advisory' AND a.datname = current_database()`)
		s.send(100*round+50, 50)
		s.eventually("the other one leads", func() bool {
			if leads(a) && leads(b) {
				both++
			}
			return strings.Count(a.out.String()+b.out.String(), `msg="relay leads"`) >= round+2
		})
	}
	t.Logf("both were seen to lead %d times", both)
	s.whole(600)
	s.noneTwice()
}

// A relay that is stopped, like one whose host is gone, keeps its connections:
// Postgres has to end its lead, and nothing is done twice when it wakes.
func TestF06RelayFrozenWhileItLeads(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	s.server()
	frozen := s.relay()
	s.worker()
	s.send(0, 1)
	s.settled(1)
	s.relay() // stands by

	frozen.signal(t, syscall.SIGSTOP)
	s.send(1, 20)
	s.settled(21)
	frozen.signal(t, syscall.SIGCONT)
	s.eventually("it has noticed", func() bool { return frozen.says("relay leads no more") })
	s.send(21, 20)
	s.whole(41)
}

// A worker is stopped for longer than its lease while its handlers run. When
// it wakes its jobs are others', and it can neither store nor spoil anything.
func TestF10WorkerFrozenBeyondItsLease(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	s.server()
	s.relay()
	frozen := s.moodyWorker(`{"takesMs":1500}`)
	s.send(0, 20)
	s.eventually("they are in hand", func() bool { return s.jobs("processing") > 10 })
	frozen.signal(t, syscall.SIGSTOP)
	s.eventually("they were given to others", func() bool { return s.history("reclaimed") > 0 })
	s.worker()
	s.settled(20)
	frozen.signal(t, syscall.SIGCONT)
	s.eventually("it has noticed", func() bool { return frozen.says("the lease is lost") || frozen.says("outcome=lost") })
	s.send(20, 20)
	s.whole(40)
	require.Equal(t, 40, s.history("completed"))
}

// A worker is stopped in the middle of the transaction that stores its
// results, which holds the rows of its jobs. Nobody else may wait for it.
func TestX06WorkerFrozenInATransaction(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	s.server()
	relay := s.relay()
	frozen := s.worker()
	release := s.held("observations")
	s.send(0, 20)
	s.eventually("it is stopped while it stores", func() bool {
		if s.storing("observations") == 0 {
			return false
		}
		frozen.signal(t, syscall.SIGSTOP)
		if s.storing("observations") > 0 {
			return true
		}
		frozen.signal(t, syscall.SIGCONT) // it had given up just then
		return false
	})
	release()
	s.eventually("the transaction stands open", func() bool {
		return s.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'`) > 0
	})
	s.worker()
	s.heldFor(7 * time.Second) // its lease is over, and the relay wants its jobs back
	s.send(20, 50)
	s.eventually("the others are done", func() bool { return s.jobs("completed") >= 50 })
	require.NotZero(t, s.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'`),
		"while it is still open")
	require.False(t, relay.says("relay leads no more"))
	frozen.signal(t, syscall.SIGCONT)
	s.whole(70)
}

// The API is stopped in the midst of requests, and goes on.
func TestX07APIFrozen(t *testing.T) {
	t.Parallel()
	s := newRow(t)
	s.relay()
	s.worker()
	frozen := s.server()
	first := s.api
	s.server()
	second := s.api
	s.send(0, 20)
	var wg sync.WaitGroup
	frozen.signal(t, syscall.SIGSTOP)
	answers := make([]int, 10)
	for i := range answers {
		wg.Go(func() {
			body, _ := json.Marshal(s.event(100 + i))
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, first+"/v1/events", strings.NewReader(string(body)))
			if err == nil {
				req.Header.Set("Content-Type", "application/json")
				answers[i], _ = do(t, req, s.key)
			}
		})
	}
	s.api = second
	s.send(20, 20) // the other one goes on
	s.settled(40)
	s.heldFor(5 * time.Second)
	frozen.signal(t, syscall.SIGCONT)
	wg.Wait()
	for i, code := range answers {
		require.Equal(t, http.StatusCreated, code)
		require.True(t, s.tell(100+i), "and again, at the other one")
	}
	s.whole(50)
}
