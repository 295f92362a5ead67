package api

import (
	"embed"
	"mime"
	"net/http"
	"path"

	"github.com/labstack/echo/v4"
)

//go:embed web/live.html web/live.css web/live.js
var web embed.FS

// livePolicy lets the page load its own two files and call this server, and
// nothing else.
const livePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// asset serves a file of the live page. It has no data in it: what it shows it
// asks for with the key that its reader types.
func asset(name string) echo.HandlerFunc {
	return func(c echo.Context) error {
		text, err := web.ReadFile("web/" + name)
		if err != nil {
			return err
		}
		c.Response().Header().Set(echo.HeaderContentSecurityPolicy, livePolicy)
		return c.Blob(http.StatusOK, mime.TypeByExtension(path.Ext(name)), text)
	}
}
