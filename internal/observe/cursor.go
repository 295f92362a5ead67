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
	near int64  // as asOf, of vectors: when the first page was asked for; 0: it was ranked by text alone
}

// fingerprint tells one query from another, whatever their pages are.
func (query *Query) fingerprint() string {
	return string(events.NewID("q", query.ProjectID, query.Query, deref(platformOf(query.PlatformSource)), strings.Join(query.Kinds, "\x00"),
		query.SessionID, query.Path, fmt.Sprint(query.Since.UnixMicro()), fmt.Sprint(query.Until.UnixMicro())))
}

func (c cursor) text(fingerprint string) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%s %d %d %d %s", fingerprint, c.asOf, c.seen, c.near, c.last))
}

// readCursor reports whether the text is one of that query. "" is the first
// page's.
func readCursor(text, fingerprint string) (cursor, bool) {
	if text == "" {
		return cursor{}, true
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	parts := strings.SplitN(string(raw), " ", 5)
	if err != nil || len(parts) != 5 || parts[0] != fingerprint {
		return cursor{}, false
	}
	asOf, err := strconv.ParseInt(parts[1], 10, 64)
	seen, err2 := strconv.Atoi(parts[2])
	near, err3 := strconv.ParseInt(parts[3], 10, 64)
	last := endOfTime.UnixMicro()
	if err != nil || err2 != nil || err3 != nil || asOf <= 0 || asOf > last || seen < 0 || near < 0 || near > last {
		return cursor{}, false
	}
	return cursor{asOf: asOf, last: parts[4], seen: seen, near: near}, true
}
