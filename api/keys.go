package api

import (
	"context"
	"net/http"
	"time"

	"github.com/seed-245eaa15/obs/internal/observe"
)

type keyRequest struct {
	key  observe.NewKey
	base string
}

func (r *keyRequest) read(in *input) {
	o := in.object()
	// observe counts its characters, here are bytes
	if label := o.optionalText("label", 480); label != nil {
		r.key.Label = *label
	}
	r.key.ExpiresInDays = int(o.optionalInteger("expiresInDays", 0, 1, 365))
	r.key.Scopes = o.names("scopes", 16)
	r.base = in.base()
}

// newKeyBody is the only answer that has the key itself.
type newKeyBody struct {
	ID        string     `json:"id"`
	APIKey    string     `json:"apiKey"`
	Label     string     `json:"label"`
	TeamID    string     `json:"teamId"`
	ProjectID *string    `json:"projectId"`
	Scopes    []string   `json:"scopes"`
	ExpiresAt *time.Time `json:"expiresAt"`
}

// connectedKeyBody also says how to use it.
type connectedKeyBody struct {
	newKeyBody
	connection
}

func (newKeyBody) status() int { return http.StatusCreated }

func asNewKey(k observe.Key, secret string) newKeyBody {
	return newKeyBody{
		ID: k.ID, APIKey: secret, Label: k.Label, TeamID: k.TeamID, ProjectID: textOrNull(k.ProjectID),
		Scopes: k.Scopes, ExpiresAt: k.ExpiresAt,
	}
}

func (s *server) createKey(ctx context.Context, c observe.Caller, r keyRequest) (connectedKeyBody, error) {
	k, secret, err := s.cfg.Service.CreateKey(ctx, c, r.key)
	return connectedKeyBody{asNewKey(k, secret), s.connection(r.base, secret)}, err
}

type keyBody struct {
	ID        string     `json:"id"`
	Prefix    string     `json:"prefix"`
	Label     string     `json:"label"`
	TeamID    string     `json:"teamId"`
	ProjectID *string    `json:"projectId"`
	Actor     string     `json:"actorId"`
	Scopes    []string   `json:"scopes"`
	Status    string     `json:"status"`
	CreatedAt time.Time  `json:"createdAt"`
	ExpiresAt *time.Time `json:"expiresAt"`
	RevokedAt *time.Time `json:"revokedAt"`
	LastUsed  *time.Time `json:"lastUsedAt"`
}

type keysBody struct {
	Keys []keyBody `json:"keys"`
}

func (s *server) listKeys(ctx context.Context, c observe.Caller, _ none) (keysBody, error) {
	keys, err := s.cfg.Service.ListKeys(ctx, c)
	body := keysBody{[]keyBody{}}
	for _, k := range keys {
		one := keyBody{
			ID: k.ID, Prefix: k.Prefix, Label: k.Label, TeamID: k.TeamID, ProjectID: textOrNull(k.ProjectID),
			Actor: k.ActorID, Scopes: k.Scopes, Status: "active", CreatedAt: k.CreatedAt.UTC(),
			ExpiresAt: k.ExpiresAt, RevokedAt: k.RevokedAt, LastUsed: k.LastUsedAt,
		}
		switch {
		case k.RevokedAt != nil:
			one.Status = "revoked"
		case k.ExpiresAt != nil && k.ExpiresAt.Before(time.Now()):
			one.Status = "expired"
		}
		body.Keys = append(body.Keys, one)
	}
	return body, err
}

type revokedBody struct {
	ID     string `json:"id"`
	Status string `json:"status"`
}

func (s *server) revokeKey(ctx context.Context, c observe.Caller, r named) (revokedBody, error) {
	k, err := s.cfg.Service.RevokeKey(ctx, c, r.id)
	return revokedBody{k.ID, "revoked"}, err
}
