// Package events is the vocabulary of the job pipeline: a job's name, its
// history, and the state that the history folds to. It is pure: standard
// library only, no clock, no input or output.
//
// A [Job] is work that has to be done once. What happened to it is a history
// of [Event]s, numbered 1, 2, 3 … by [Event.Version]. The job's state is the
// fold of that history ([Fold]), and [Job.Apply] is the only rule by which a
// job ever changes. A store keeps the folded row beside the history for
// queries, and changes both in one statement, guarded by the version that the
// change was computed from.
//
//	queued ──────── processing ────────► completed
//	  ▲  ▲              │   │
//	  │  └ reclaimed,   │   └──────────► failed ───┐
//	  │    released,    │                          │
//	  │    retry_scheduled                         │ queued, by an operator
//	  └────────────────────────────────────────────┤
//	                 cancelled ◄── queued, processing
//
// Start with [NewID], which names a job after its work, so that asking twice
// for the same work makes one job. Then [New] makes the job and its first
// event. [Envelope] is what travels on the stream: a reference to one attempt,
// never the job's data.
package events
