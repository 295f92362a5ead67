package observe

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/sqlc"
)

const (
	maxLabel   = 120 // characters
	maxExpiry  = 365 // days
	prefixSize = 8   // characters of a key that are kept to recognise it by
	maxKeys    = 1000
)

// CreateKey makes a key with the caller's team, project and actor, and
// returns its secret, which is stored nowhere. Nobody can grant what they do
// not have: no other scope, and no longer a time.
func (s *Service) CreateKey(ctx context.Context, c Caller, n NewKey) (Key, string, error) {
	if err := c.granted(toWrite); err != nil {
		return Key{}, "", err
	}
	if len(n.Scopes) == 0 {
		n.Scopes = []string{ScopeRead}
	}
	if err := n.check(); err != nil {
		return Key{}, "", err
	}
	var key Key
	var secret string
	err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toWrite)
		if err != nil {
			return err
		}
		if err := c.mayGrant(n.Scopes); err != nil {
			return err
		}
		var expires *time.Time
		if n.ExpiresInDays > 0 {
			expires = new(time.Now().AddDate(0, 0, n.ExpiresInDays))
		}
		if c.Expires != nil && (expires == nil || expires.After(*c.Expires)) {
			expires = c.Expires
		}
		if key, secret, err = s.insertKey(ctx, q, scope, c.Actor, n.Label, n.Scopes, expires); err != nil {
			return err
		}
		return c.audit(ctx, q, entry{
			scope: scope, action: actKeyCreate, resource: resKey, id: key.ID,
			details: map[string]any{"scopes": key.Scopes, "expires_at": key.ExpiresAt},
		})
	})
	return key, secret, err
}

func (n NewKey) check() error {
	var wrong issues
	if len([]rune(n.Label)) > maxLabel {
		wrong.add(CodeTooBig, fmt.Sprintf("at most %d characters", maxLabel), "label")
	}
	if n.ExpiresInDays < 0 {
		wrong.add(CodeTooSmall, "at least 1 day", "expiresInDays")
	}
	if n.ExpiresInDays > maxExpiry {
		wrong.add(CodeTooBig, fmt.Sprintf("at most %d days", maxExpiry), "expiresInDays")
	}
	for i, scope := range n.Scopes {
		if !slices.Contains(Scopes(), scope) {
			wrong.add(CodeValue, fmt.Sprintf("one of %q", Scopes()), "scopes", i)
		}
	}
	return wrong.err()
}

func (c Caller) mayGrant(scopes []string) error {
	for _, scope := range scopes {
		if !c.Has(scope) || (scope == ScopeAll && !slices.Contains(c.Scopes, ScopeAll)) {
			return forbidden("an API key cannot grant a scope that it lacks")
		}
	}
	return nil
}

// ListKeys gives the keys that the caller administers, newest first.
func (s *Service) ListKeys(ctx context.Context, c Caller) ([]Key, error) {
	var keys []Key
	err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toAdmin)
		if err != nil {
			return err
		}
		rows, err := q.ListKeys(ctx, sqlc.ListKeysParams{TeamID: scope.Team, ProjectID: scope.Project, MaxRows: maxKeys})
		if err != nil {
			return fmt.Errorf("list keys: %w", err)
		}
		keys = make([]Key, len(rows))
		for i, r := range rows {
			keys[i] = keyOf(r)
		}
		return nil
	})
	return keys, err
}

// RevokeKey makes a key useless at once, and fails the jobs that it has asked
// for and that have not begun. It may be said again. A key may always revoke
// itself.
func (s *Service) RevokeKey(ctx context.Context, c Caller, id string) (Key, error) {
	var key Key
	err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, c.overKey(id))
		if err != nil {
			return err
		}
		key, err = c.revoke(ctx, q, scope, id)
		return err
	})
	return key, err
}

// RotateKey makes a new key with what the old one may do, and revokes the old
// one, whose jobs go on. A key may always rotate itself; the new one expires when it would have.
// A revoked key is an ErrConflict.
func (s *Service) RotateKey(ctx context.Context, c Caller, id string) (Key, string, error) {
	var key Key
	var secret string
	err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, c.overKey(id))
		if err != nil {
			return err
		}
		old, err := q.LockKey(ctx, sqlc.LockKeyParams{ID: plain(id), TeamID: scope.Team, ProjectID: scope.Project})
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return notFound("Key")
		case err != nil:
			return fmt.Errorf("rotate key: %w", err)
		case old.RevokedAt != nil:
			return conflict("the key is revoked")
		}
		if err := c.mayGrant(old.Scopes); err != nil {
			return err
		}
		of := events.Scope{Team: old.TeamID, Project: deref(old.ProjectID)}
		if key, secret, err = s.insertKey(ctx, q, of, old.ActorID, old.Label, old.Scopes, old.ExpiresAt); err != nil {
			return err
		}
		if _, err := c.revoke(ctx, q, scope, id); err != nil {
			return err
		}
		err = q.ReplacedKey(ctx, sqlc.ReplacedKeyParams{ReplacedBy: &key.ID, ID: old.ID, TeamID: scope.Team, ProjectID: scope.Project})
		if err != nil {
			return fmt.Errorf("rotate key: %w", err)
		}
		return c.audit(ctx, q, entry{
			scope: of, action: actKeyRotate, resource: resKey, id: key.ID, details: map[string]any{"replaces": old.ID},
		})
	})
	return key, secret, err
}

// overKey says what is needed to change a key: nothing special for one's own.
func (c Caller) overKey(id string) []string {
	if id == c.KeyID && id != "" {
		return Scopes()
	}
	return toAdmin
}

func (c Caller) revoke(ctx context.Context, q *sqlc.Queries, scope events.Scope, id string) (Key, error) {
	row, err := q.RevokeKey(ctx, sqlc.RevokeKeyParams{ID: plain(id), TeamID: scope.Team, ProjectID: scope.Project})
	if errors.Is(err, pgx.ErrNoRows) {
		return Key{}, notFound("Key")
	}
	if err != nil {
		return Key{}, fmt.Errorf("revoke key: %w", err)
	}
	of := events.Scope{Team: row.TeamID, Project: deref(row.ProjectID)}
	return keyOf(row), c.audit(ctx, q, entry{scope: of, action: actKeyRevoke, resource: resKey, id: row.ID})
}

// IssueKey makes a key for those who have the database anyway: nobody's
// rights are asked for. project "" means all of the team's; the zero time
// means that it never expires.
func (s *Service) IssueKey(ctx context.Context, team, project, actor, label string, scopes []string, expires time.Time) (Key, string, error) {
	if err := (NewKey{Label: label, Scopes: scopes}).check(); err != nil {
		return Key{}, "", err
	}
	if len(scopes) == 0 {
		scopes = []string{ScopeRead}
	}
	operator := Caller{Actor: actor, Team: team, Scopes: []string{ScopeAll}}
	var key Key
	var secret string
	err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		found, err := q.HasTeam(ctx, plain(team))
		switch {
		case err != nil:
			return fmt.Errorf("issue key: %w", err)
		case !found:
			return notFound("Team")
		}
		scope := events.Scope{Team: team}
		if project != "" {
			if scope, err = s.allow(ctx, q, operator, toAdmin, project); err != nil {
				return err
			}
		}
		var until *time.Time
		if !expires.IsZero() {
			until = &expires
		}
		if key, secret, err = s.insertKey(ctx, q, scope, actor, label, scopes, until); err != nil {
			return err
		}
		return operator.audit(ctx, q, entry{
			scope: scope, action: actKeyCreate, resource: resKey, id: key.ID,
			details: map[string]any{"scopes": key.Scopes, "expires_at": key.ExpiresAt},
		})
	})
	return key, secret, err
}

func (s *Service) insertKey(ctx context.Context, q *sqlc.Queries, scope events.Scope, actor, label string, scopes []string, expires *time.Time) (Key, string, error) {
	var random [32]byte
	rand.Read(random[:]) // never fails
	secret := "obs_" + base64.RawURLEncoding.EncodeToString(random[:])
	hash := s.cfg.Peppers.hashes(secret)[0]
	row, err := q.InsertKey(ctx, sqlc.InsertKeyParams{
		ID: newUUID(), TeamID: scope.Team, ProjectID: orNil(scope.Project), ActorID: plain(actor), Label: plain(label),
		Prefix: secret[:prefixSize], KeyHash: hash.sum, Pepper: hash.pepper, Scopes: scopes, ExpiresAt: expires,
	})
	if err != nil {
		return Key{}, "", fmt.Errorf("insert key: %w", err)
	}
	return keyOf(row), secret, nil
}

func keyOf(r sqlc.ApiKey) Key {
	return Key{
		ID: r.ID, TeamID: r.TeamID, ProjectID: deref(r.ProjectID), ActorID: r.ActorID, Label: r.Label, Prefix: r.Prefix,
		Pepper: r.Pepper, Scopes: r.Scopes, CreatedAt: r.CreatedAt, ExpiresAt: r.ExpiresAt, RevokedAt: r.RevokedAt, LastUsedAt: r.LastUsedAt,
	}
}

// newUUID is for what has no identity of its own: in order of time, which
// keeps indexes small.
func newUUID() string { return uuid.Must(uuid.NewV7()).String() }
