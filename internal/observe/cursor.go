package observe

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/seed-245eaa15/obs/events"
)

// cursor is where a page of a search ended. What is made later is not of the
// pages that follow.
type cursor struct {
	asOf int64  // µs since 1970: the newest that the first page knew of; 0 is the first page
	last string // the id that the page ended with
	seen int    // how many came up to it
}

// fingerprint tells one query from another, whatever their pages are.
func (query *Query) fingerprint() string {
	return string(events.NewID("q", query.ProjectID, query.Query, deref(platformOf(query.PlatformSource)), strings.Join(query.Kinds, "\x00"),
		query.SessionID, query.Path, fmt.Sprint(query.Since.UnixMicro()), fmt.Sprint(query.Until.UnixMicro())))
}

func (c cursor) text(fingerprint string) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%s %d %d %s", fingerprint, c.asOf, c.seen, c.last))
}

// readCursor reports whether the text is one of that query. "" is the first
// page's.
func readCursor(text, fingerprint string) (cursor, bool) {
	if text == "" {
		return cursor{}, true
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	parts := strings.SplitN(string(raw), " ", 4)
	if err != nil || len(parts) != 4 || parts[0] != fingerprint {
		return cursor{}, false
	}
	asOf, err := strconv.ParseInt(parts[1], 10, 64)
	seen, err2 := strconv.Atoi(parts[2])
	if err != nil || err2 != nil || asOf <= 0 || asOf > endOfTime.UnixMicro() || seen < 0 {
		return cursor{}, false
	}
	return cursor{asOf, parts[3], seen}, true
}
