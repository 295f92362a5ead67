// Package outbox brings committed jobs to the stream. Postgres is the truth
// and the stream carries references, so whatever the broker loses is asked
// for again.
//
// [Ensure] makes the two streams: JOBS, where one message is one attempt of
// one job and goes when a worker has acknowledged it, and EVENTS, where
// everybody may follow what happens. Then [New] makes a [Relay] over a
// [Store] of queued jobs, and [Relay.Run] publishes until its context ends.
// Any number of relays may run: one leads, the others stand by, and two
// leaders at once only publish duplicates.
//
// The relay keeps the broker shallow. Only about as many jobs are on the
// stream as the workers do in a second; the backlog stays in the store, so
// that priority, fairness between tenants and cancelling act on all of it.
//
// Nothing here rests on the broker's dedupe, on acknowledgements or on
// leadership: a message that comes twice, late, or for a job that is settled
// finds its claim refused by the store.
package outbox
