package observe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/sqlc"
)

// The scopes of a key. "*" grants them all.
const (
	ScopeRead  = "memories:read"
	ScopeWrite = "memories:write"
	ScopeAdmin = "memories:admin" // keys, and the arguments of jobs
	ScopeAll   = "*"
)

// Scopes lists the scopes that mean something.
func Scopes() []string { return []string{ScopeRead, ScopeWrite, ScopeAdmin, ScopeAll} }

// Caller is who asks, as [Service.Authenticate] found it.
type Caller struct {
	KeyID     string
	Actor     string
	Team      string
	Project   string // "" means all of the team's
	Scopes    []string
	Expires   *time.Time // nil: never
	RequestID string     // set by the door; goes into the audit log and to the job
	Via       string     // set by the door where it is not the plain HTTP API, as "mcp"; goes into the audit log
}

// Has reports whether the caller was granted the scope.
func (c Caller) Has(scope string) bool {
	return slices.Contains(c.Scopes, ScopeAll) || slices.Contains(c.Scopes, scope)
}

// maxKey bounds what is worth hashing, in bytes.
const maxKey = 512

// Authenticate finds out who holds the key. ErrNoKey when there is none;
// ErrBadKey when it is unknown, revoked or expired, which are not told apart.
func (s *Service) Authenticate(ctx context.Context, key string) (Caller, error) {
	if key == "" {
		return Caller{}, ErrNoKey
	}
	if len(key) > maxKey {
		return Caller{}, ErrBadKey
	}
	hashes := s.cfg.Peppers.hashes(key)
	sums := make([][]byte, len(hashes))
	for i, h := range hashes {
		sums[i] = h.sum
	}
	row, err := s.q.UseKey(ctx, sums)
	if errors.Is(err, pgx.ErrNoRows) {
		return Caller{}, ErrBadKey
	}
	if err != nil {
		return Caller{}, fmt.Errorf("authenticate: %w", err)
	}
	switch which(hashes, row.KeyHash) {
	case 0:
	case -1: // Postgres compares as well, in its own time
		return Caller{}, ErrBadKey
	default:
		err := s.q.RehashKey(ctx, sqlc.RehashKeyParams{
			NewHash: hashes[0].sum, Pepper: hashes[0].pepper, OldHash: row.KeyHash, ID: row.ID, TeamID: row.TeamID, ProjectID: row.ProjectID,
		})
		if err != nil { // the key is good all the same
			s.log.LogAttrs(ctx, slog.LevelWarn, "key not hashed anew", slog.String("key", row.ID), slog.Any("err", err))
		}
	}
	return Caller{KeyID: row.ID, Actor: row.ActorID, Team: row.TeamID, Project: deref(row.ProjectID), Scopes: row.Scopes, Expires: row.ExpiresAt}, nil
}

// granted is the part of allow that needs no database. Methods with much to
// check in a request ask it first: who may do nothing is told nothing else.
func (c Caller) granted(anyOf []string) error {
	switch {
	case !slices.ContainsFunc(anyOf, c.Has):
		return ErrNoScope
	case c.Team == "":
		return forbidden("API key is not bound to a team")
	}
	return nil
}

// allow is the one place that decides who may do what: the caller needs one
// of the scopes, and each project named must be of its team and, if its key
// is for one project, that one. It gives the scope to query with; its Project
// is empty when the caller may see all of the team's and named none or several.
func (s *Service) allow(ctx context.Context, q *sqlc.Queries, c Caller, anyOf []string, projects ...string) (events.Scope, error) {
	if err := c.granted(anyOf); err != nil {
		return events.Scope{}, err
	}
	scope := events.Scope{Team: c.Team, Project: c.Project}
	projects = slices.Compact(slices.Sorted(slices.Values(projects)))
	if c.Project != "" {
		// A key's project is of its team by a foreign key.
		if slices.ContainsFunc(projects, func(p string) bool { return p != c.Project }) {
			return events.Scope{}, forbidden("API key is scoped to a different project")
		}
		return scope, nil
	}
	if len(projects) == 0 {
		return scope, nil
	}
	owned, err := q.OwnedProjects(ctx, sqlc.OwnedProjectsParams{ProjectIds: plainAll(projects), TeamID: c.Team})
	if err != nil {
		return events.Scope{}, fmt.Errorf("look up projects: %w", err)
	}
	for _, p := range projects {
		if !slices.Contains(owned, p) {
			return events.Scope{}, forbidden("project_id must belong to team_id")
		}
	}
	if len(projects) == 1 {
		scope.Project = projects[0]
	}
	return scope, nil
}

// What methods need, for allow.
var (
	toRead  = []string{ScopeRead}
	toWrite = []string{ScopeWrite}
	toAdmin = []string{ScopeAdmin}
	toWait  = []string{ScopeRead, ScopeWrite} // for a job that one has just asked for
)

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// orNil is nil for "".
func orNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func plainAll(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = plain(s)
	}
	return out
}
