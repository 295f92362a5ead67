package api

import (
	"context"
	"regexp"
	"strings"

	"github.com/seed-245eaa15/obs/internal/observe"
)

// plainHost is a host that can stand in a command as it is.
var plainHost = regexp.MustCompile(`^[A-Za-z0-9.-]+(:[0-9]{1,5})?$|^\[[0-9A-Fa-f:]+\](:[0-9]{1,5})?$`)

// base is the URL that the client called, as far as it can be told from here.
func (in *input) base() string {
	scheme := "http"
	if in.c.Request().TLS != nil {
		scheme = "https"
	}
	host := in.c.Request().Host
	if !plainHost.MatchString(host) {
		host = "localhost"
	}
	return scheme + "://" + host
}

// connection is how an agent is pointed at this server.
type connection struct {
	MCPURL  string `json:"mcpUrl"`
	Command string `json:"connectCommand"`
}

func (s *server) connection(base, key string) connection {
	if s.cfg.PublicURL != "" {
		base = strings.TrimRight(s.cfg.PublicURL, "/")
	}
	url := base + "/v1/mcp"
	return connection{url, `claude mcp add --transport http claude-mem ` + url + ` --header "Authorization: Bearer ` + key + `"`}
}

type connectRequest struct{ base string }

func (r *connectRequest) read(in *input) { r.base = in.base() }

type connectBody struct {
	connection
	Hint string `json:"hint"`
}

func (s *server) connect(_ context.Context, _ observe.Caller, r connectRequest) (connectBody, error) {
	return connectBody{
		s.connection(r.base, "<your-api-key>"), "Put a key in place of <your-api-key>: POST /v1/keys makes one for reading.",
	}, nil
}
