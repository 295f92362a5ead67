// Package sqlc is Postgres as we ask it: people write the .sql files, sqlc
// writes the Go beside them (task generate). Only packages db and
// internal/observe call it.
package sqlc
