package observe

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"slices"
	"time"

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

	presumed bool // nobody has looked whether the key is still good; see Presume
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
	k := &shown{hashes: hashes}
	if err := s.shown.do(ctx, k, len(hashes)); err != nil {
		return Caller{}, fmt.Errorf("authenticate: %w", err)
	}
	sum := sha256.Sum256([]byte(key))
	if k.row == nil {
		s.presumed.drop(sum)
		return Caller{}, ErrBadKey
	}
	row := *k.row
	if which(hashes, row.KeyHash) != 0 {
		err := s.q.RehashKey(ctx, sqlc.RehashKeyParams{
			NewHash: hashes[0].sum, Pepper: hashes[0].pepper, OldHash: row.KeyHash, ID: row.ID, TeamID: row.TeamID, ProjectID: row.ProjectID,
		})
		if err != nil { // the key is good all the same
			s.log.LogAttrs(ctx, slog.LevelWarn, "key not hashed anew", slog.String("key", row.ID), slog.Any("err", err))
		}
	}
	c := Caller{KeyID: row.ID, Actor: row.ActorID, Team: row.TeamID, Project: deref(row.ProjectID), Scopes: row.Scopes, Expires: row.ExpiresAt}
	s.presumed.put(sum, c, presumedFor)
	return c, nil
}

// presumedFor is how long it takes until a key that is used all the time is
// looked up again, which is when its use is noted.
const presumedFor = 30 * time.Second

// Presume gives the holder of a key that was good not long ago, without asking
// whether it still is. Only Record takes such a caller: it looks in the
// transaction that stores the events, and ErrBadKey is then its answer. For
// whatever else is answered the caller is to be authenticated first. There is
// nobody where requests are counted, which comes before.
func (s *Service) Presume(key string) (Caller, bool) {
	if len(key) > maxKey || s.cfg.Limits.PerMinute > 0 || s.cfg.Limits.metering() {
		return Caller{}, false
	}
	c, ok := s.presumed.get(sha256.Sum256([]byte(key)))
	c.presumed = true
	return c, ok
}

const (
	maxShown   = 200              // hashes that are looked up together
	keysWithin = 15 * time.Second // others wait for the answer, and a process may have been stopped meanwhile
)

// shown is a key that a request shows.
type shown struct {
	hashes []keyHash
	row    *sqlc.FindKeysRow // nil: there is no such key, or it is good no more
}

// useKeys looks up the keys that were shown while the last question was under
// way: each is asked for after its request came, so that a key that was
// revoked before that is found to be.
func (s *Service) useKeys(ctx context.Context, keys []*shown) error {
	sums := make([][]byte, 0, len(keys))
	seen := make(map[string]bool, len(keys))
	for _, k := range keys {
		for _, h := range k.hashes {
			if !seen[string(h.sum)] {
				seen[string(h.sum)] = true
				sums = append(sums, h.sum)
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, keysWithin)
	defer cancel()
	rows, err := s.q.FindKeys(ctx, sums)
	if err != nil {
		return err
	}
	found := make(map[string]*sqlc.FindKeysRow, len(rows))
	var used sqlc.NoteKeysParams
	for i, r := range rows {
		found[string(r.KeyHash)] = &rows[i]
		if r.Stale {
			used.Ids, used.TeamIds = append(used.Ids, r.ID), append(used.TeamIds, r.TeamID)
			used.ProjectIds = append(used.ProjectIds, deref(r.ProjectID))
		}
	}
	if len(used.Ids) > 0 {
		if err := s.q.NoteKeys(ctx, used); err != nil {
			return err
		}
	}
	for _, k := range keys {
		for _, h := range k.hashes {
			if row := found[string(h.sum)]; row != nil && which(k.hashes, row.KeyHash) >= 0 { // a map compares in its own time, as Postgres does
				k.row = row
			}
		}
	}
	return nil
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
	owned := projects
	if c.Project == "" && len(projects) > 0 { // a key's project is of its team by a foreign key
		var err error
		owned, err = q.OwnedProjects(ctx, sqlc.OwnedProjectsParams{ProjectIds: plainAll(projects), TeamID: c.Team})
		if err != nil {
			return events.Scope{}, fmt.Errorf("look up projects: %w", err)
		}
	}
	for _, p := range projects {
		if err := c.within(p, slices.Contains(owned, p)); err != nil {
			return events.Scope{}, err
		}
	}
	if len(projects) == 1 {
		scope.Project = projects[0]
	}
	return scope, nil
}

// within is the part of allow that is about a project; owned says that it is
// of the caller's team.
func (c Caller) within(project string, owned bool) error {
	switch {
	case c.Project != "" && project != c.Project:
		return forbidden("API key is scoped to a different project")
	case !owned:
		return forbidden("project_id must belong to team_id")
	}
	return nil
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
