// Package embedded starts the two servers that obs needs, PostgreSQL and NATS with JetStream, for people who
// have neither running: `obs dev`, `obs demo` and the tests.
//
// [StartPostgres] runs the server programs found on this machine (or fetched once) as a child process. It
// listens on a Unix socket in a private folder only, so there is no port to clash and no password to keep. As
// root, which PostgreSQL refuses to run as, it runs as an unprivileged user. [StartNATS] runs inside this
// process.
//
// Both own their data folder through a file lock for as long as they run, recover what a killed predecessor
// left behind, and answer a hopeless situation with one line that says what to do.
package embedded
