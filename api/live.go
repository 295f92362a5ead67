package api

import (
	"embed"
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"
)

//go:embed web
var web embed.FS

// livePolicy lets the live page have its own two files and call this server,
// and nothing else.
const livePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// asset serves a file of the live page. There is no data in it: what the page
// shows it asks for with the key that its reader has typed.
func asset(name, kind string) echo.HandlerFunc {
	return func(c echo.Context) error {
		body, err := web.ReadFile("web/" + name)
		if err != nil {
			return fmt.Errorf("the live page: %w", err)
		}
		h := c.Response().Header()
		h.Set(echo.HeaderContentSecurityPolicy, livePolicy)
		h.Set(echo.HeaderCacheControl, "no-cache")
		if unchanged(c, http.StatusOK, body) {
			return c.NoContent(http.StatusNotModified)
		}
		return c.Blob(http.StatusOK, kind, body)
	}
}
