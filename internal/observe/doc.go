// Package observe is the application: sessions, agent events, the jobs that
// turn them into observations, and the search over those.
//
// Start with [New]. The door calls [Service.Authenticate] for a [Caller] and
// hands it to every method; the method decides by itself, in its own
// transaction, what that caller may do. A worker calls [Service.Register] for
// the handlers of the four job kinds.
//
// Three rules hold everywhere. Postgres decides: no handler believes a field
// of a message. What stands in privacy tags is stored with the event and
// leaves it for nobody else, neither a provider nor an observation. The
// provider is asked with no transaction open.
package observe
