// Package pipeline does jobs: it takes messages from a stream, claims the
// attempts that they ask for, runs handlers, and records what came of it.
//
// A [Handler] does its slow work with no transaction open, and returns what is
// left to write as a [Commit]. The worker runs that in the transaction that
// records the job as completed, and only if the attempt is still its own. So
// the effects of a job are stored exactly once, however often its handler
// ran; what a handler does outside of its Commit can happen more than once.
//
// Start with [New], give the worker a handler a kind with [Handle], then call
// [Worker.Run]. What a handler's error means is said by [Permanent] and
// [RetryAfter]; any other error is tried again until the attempts are spent.
// [Unavailable] and [Trouble] say that the cause lies in what the handler
// depends on: after some in a row the lane rests, then tries with one job, and
// no attempt is lost meanwhile; see [Breaker]. [Hold] puts one job off for a
// reason of its own, and the lane goes on. [Done] is a success that says why.
//
// A handler that takes milliseconds and may run twice at the same time can be
// [Brief]: its jobs are not claimed before they run, and stored as begun and
// ended by one transaction.
//
// Each kind has a lane of its own: a durable pull consumer, a number of slots,
// and its own claiming and settling, so that a lane that is stuck holds up no
// other. The stream and the consumers are made by others (see outbox).
package pipeline
