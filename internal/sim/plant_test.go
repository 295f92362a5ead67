package sim_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"

	"github.com/seed-245eaa15/obs/events"
)

// plant is a bug that the simulator builds in, around the parts that it runs:
// they have no such option.
type plant string

// The first group must be found; nothing may come of the second, for these
// are the things on which safety does not rest.
const (
	none                  plant = ""
	plantAckBeforeSettle  plant = "acknowledges before it has settled"
	plantNoFence          plant = "completes whatever the version and the holder are"
	plantNoReconciliation plant = "asks for nothing again"
	plantRemoveFirst      plant = "takes the outbox row away when it publishes, not confirmed"
	plantSameID           plant = "uses a message id again for the next ask"
	plantAskedIgnored     plant = "claims by job alone, whatever the message was asked by"
	plantStatusIgnored    plant = "claims what another worker holds"
	plantReleasedCounts   plant = "counts a released attempt"
	plantEffectsOutside   plant = "stores effects outside of the transaction"
	plantToldFirst        plant = "takes events out of the feed before the stream has them"

	plantAckEarly  plant = "acknowledges what is delivered, at once"
	plantNoDedupe  plant = "publishes under ids that are always new"
	plantAllLead   plant = "lets every relay lead"
	plantNoAckEver plant = "loses every acknowledgement until all is healed"
	plantAllThrice plant = "delivers everything three times"
)

// envelopes is what the store is asked to claim.
func (b plant) envelopes(w *world, es []events.Envelope) []events.Envelope {
	if b != plantAskedIgnored {
		return es
	}
	changed := make([]events.Envelope, len(es))
	for i, e := range es {
		if j, _, err := w.mem.Get(context.Background(), e.Scope, e.Job); err == nil {
			e.Asked = j.Asked
		}
		changed[i] = e
	}
	return changed
}

// claims is what the store answers.
func (b plant) claims(w *world, es []events.Envelope, claims []events.Claim) []events.Claim {
	if b != plantStatusIgnored {
		return claims
	}
	for i, c := range claims {
		if c.Err != events.ErrHeld { //nolint:errorlint // Memory's own
			continue
		}
		if j, _, err := w.mem.Get(context.Background(), es[i].Scope, es[i].Job); err == nil && j.Status == events.StatusProcessing {
			claims[i] = events.Claim{Job: j}
		}
	}
	return claims
}

// steps is what the store is asked to settle.
func (b plant) steps(w *world, steps []events.Step) []events.Step {
	changed := make([]events.Step, len(steps))
	for i, s := range steps {
		switch {
		case b == plantNoFence && s.Event.Type == events.Completed:
			if j, _, err := w.mem.Get(context.Background(), s.Job.Scope, s.Job.ID); err == nil && j.Status == events.StatusProcessing {
				s.Job = j
			}
		case b == plantReleasedCounts && s.Event.Type == events.Released && s.Job.Attempts < s.Job.MaxAttempts:
			s.Event.Type = events.RetryScheduled
		case b == plantReleasedCounts && s.Event.Type == events.Released:
			s.Event.Type = events.Failed
		}
		changed[i] = s
	}
	return changed
}

// shown leaves out the asks that were taken away too soon.
func (w *world) shown(asks []events.Ask) []events.Ask {
	if w.plant != plantRemoveFirst {
		return asks
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var left []events.Ask
	for _, a := range asks {
		if !w.removed[a.Envelope] {
			left = append(left, a)
		}
	}
	return left
}

func (w *world) shownRows(rows []int64) []int64 {
	if w.plant != plantRemoveFirst {
		return rows
	}
	asks, _ := w.mem.Asks(context.Background(), events.AskQuery{Rows: rows, After: 1 << 60, Limit: 1})
	var left []int64
	for _, a := range w.shown(asks) {
		left = append(left, a.Row)
	}
	return left
}

var idHeader = []byte("Nats-Msg-Id:")

// onFrame is where bugs of what is on the wire are planted.
func (w *world) onFrame(c *wire, kind string, f frame) []byte {
	switch {
	case w.plant == none:
	case w.plant == plantRemoveFirst && kind == "publish":
		if e, err := envelopeOf(f); err == nil {
			w.mu.Lock()
			w.removed[e] = true
			w.mu.Unlock()
		}
	case w.plant == plantSameID && kind == "publish":
		if e, err := envelopeOf(f); err == nil {
			sum := sha256.Sum256([]byte(e.Job))
			return withID(f.bytes, sum[:16])
		}
	case w.plant == plantNoDedupe && (kind == "publish" || kind == "tell"):
		var id [16]byte
		_, _ = rand.Read(id[:])
		return withID(f.bytes, id[:])
	case w.plant == plantAckEarly && kind == "deliver":
		go func() {
			c.writing.Lock()
			defer c.writing.Unlock()
			_, _ = c.Conn.Write([]byte("PUB " + f.reply + " 4\r\n+ACK\r\n"))
		}()
	case w.plant == plantNoAckEver && kind == "ack" && !w.over():
		return nil
	case w.plant == plantAllThrice && kind == "deliver":
		return bytes.Repeat(f.bytes, 3)
	}
	return f.bytes
}

// over reports whether all faults are.
func (w *world) over() bool {
	select {
	case <-w.healed:
		return true
	default:
		return false
	}
}

func envelopeOf(f frame) (events.Envelope, error) {
	i := bytes.LastIndexByte(f.payload, '\n')
	return events.ParseEnvelope(f.payload[i+1:])
}

// withID puts another id of 22 characters into a publish.
func withID(b, id []byte) []byte {
	i := bytes.Index(b, idHeader)
	if i < 0 {
		return b
	}
	b = bytes.Clone(b)
	rest := b[i+len(idHeader):]
	line := rest[:bytes.IndexByte(rest, '\r')]
	old := bytes.TrimLeft(line, " ")
	for i := range old { // the length stays, it is in the frame's first line
		old[i] = 'x'
	}
	copy(old, base64.RawURLEncoding.EncodeToString(id))
	return b
}
