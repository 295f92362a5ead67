// Package hook brings what Claude Code's hooks report to a server of obs,
// without ever being in the agent's way. [Run] is one call of a hook: it reads
// the hook's JSON, writes what is to be sent to a spool on disk, and then sends
// what is in the spool, all of it within a time. [Flush] sends what is left,
// for whoever has more time. [Install] and [Uninstall] change the text of
// Claude Code's settings.
//
// The spool comes first, always, so that a process that is killed, a server
// that is down and an answer that gets lost are one and the same case: the file
// is there until the server has said that it has what is in it. What is in it
// has its identity from the beginning, and the server stores an identity once,
// so that sending it again is harmless.
package hook
