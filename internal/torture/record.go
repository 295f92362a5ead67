//go:build unix

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// The operations of clients.
const (
	opSubmit = "submit" // an event, or the end of a session: asks for a job
	opRead   = "read"   // the job with its history
	opStatus = "status" // what an answer that was waited for says of the job
	opCancel = "cancel"
	opRetry  = "retry"
	opMemory = "memory" // with an Idempotency-Key
)

// endOf stands before a session in what a client calls its end.
const endOf = "end of "

// call is one request as its client saw it. Of a request that concerns
// several jobs there is a line for each.
type call struct {
	Op     string        `json:"op"`
	Client int           `json:"client"`
	Tenant int           `json:"tenant"`
	Key    string        `json:"key,omitempty"` // what the client calls it: the event, the session or the memory
	Job    string        `json:"job,omitempty"` // empty: not known when it was sent, and not answered
	Start  time.Duration `json:"start"`         // since the beginning of the run
	End    time.Duration `json:"end"`
	Code   int           `json:"code"`            // the HTTP status; 0: no answer
	Error  string        `json:"error,omitempty"` // why there was none, or what the answer says

	Status   string   `json:"status,omitempty"`  // of the job
	Already  bool     `json:"already,omitempty"` // of cancel and retry: nothing was to do
	Versions []uint64 `json:"versions,omitempty"`
	ID       string   `json:"id,omitempty"` // of the memory
}

// unknown reports whether the request may have been done or not, or may be
// done still.
func (c call) unknown() bool { return c.Code == 0 || c.Code >= 500 }

// record is the log of all calls. It is a file with a line of JSON for each.
type record struct {
	mu    sync.Mutex
	began time.Time
	file  *os.File
	w     *bufio.Writer
	calls []call
	err   error
}

func newRecord(path string) (*record, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("make the clients' log: %w", err)
	}
	return &record{began: time.Now(), file: f, w: bufio.NewWriter(f)}, nil
}

func (r *record) now() time.Duration { return time.Since(r.began) }

func (r *record) add(calls ...call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range calls {
		r.calls = append(r.calls, c)
		line, err := json.Marshal(c)
		if err == nil {
			_, err = r.w.Write(append(line, '\n'))
		}
		r.err = errors.Join(r.err, err)
	}
}

// close ends the log and gives what it holds, read back: what is checked is
// what can be looked at later.
func (r *record) close() ([]call, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := errors.Join(r.err, r.w.Flush(), r.file.Close()); err != nil {
		return nil, fmt.Errorf("end the clients' log: %w", err)
	}
	file, err := os.Open(r.file.Name())
	if err != nil {
		return nil, fmt.Errorf("read the clients' log: %w", err)
	}
	defer file.Close()
	return readCalls(file)
}

// readCalls reads a log of calls.
func readCalls(from io.Reader) ([]call, error) {
	var calls []call
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 16<<20)
	for n := 1; lines.Scan(); n++ {
		var c call
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return nil, fmt.Errorf("line %d of the clients' log: %w", n, err)
		}
		switch c.Op {
		case opSubmit, opRead, opStatus, opCancel, opRetry, opMemory:
		default:
			return nil, fmt.Errorf("line %d of the clients' log: no operation is called %q", n, c.Op)
		}
		if c.End < c.Start {
			return nil, fmt.Errorf("line %d of the clients' log: it ended before it began", n)
		}
		calls = append(calls, c)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the clients' log: %w", err)
	}
	return calls, nil
}
