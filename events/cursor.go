package events

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Cursor is a place in the feed of all jobs' events, where a follower can go
// on later. A feed that was lost and made again counts from one again, so the
// place alone would not do. The zero value is no place: who starts there hears
// what happens from now on.
type Cursor struct {
	Epoch int64  // when the feed was made, in ns since 1970; 0 only in the zero Cursor
	Seq   uint64 // of the last message that was heard whole; 0: none yet
	Part  int    // how many events of the one behind it were heard; 0: none, and never all
}

// CursorAt is the place behind message seq of a feed that was made then.
func CursorAt(made time.Time, seq uint64) Cursor { return Cursor{Epoch: made.UnixNano(), Seq: seq} }

// IsZero reports whether c is no place at all.
func (c Cursor) IsZero() bool { return c.Epoch == 0 }

// Before reports whether c comes before another place in the same feed.
func (c Cursor) Before(d Cursor) bool { return c.Seq < d.Seq || c.Seq == d.Seq && c.Part < d.Part }

// String is "epoch-seq", or "epoch-seq.part" within a message, which
// [ParseCursor] reads. It is "" for no place.
func (c Cursor) String() string {
	if c.IsZero() {
		return ""
	}
	s := strconv.FormatInt(c.Epoch, 10) + "-" + strconv.FormatUint(c.Seq, 10)
	if c.Part > 0 {
		s += "." + strconv.Itoa(c.Part)
	}
	return s
}

// ParseCursor reads what String writes, and nothing else: a place has one
// spelling.
func ParseCursor(s string) (Cursor, error) {
	if s == "" {
		return Cursor{}, nil
	}
	epoch, place, _ := strings.Cut(s, "-")
	seq, part, within := strings.Cut(place, ".")
	var c Cursor
	var err error
	if c.Epoch, err = strconv.ParseInt(epoch, 10, 64); err == nil {
		c.Seq, err = strconv.ParseUint(seq, 10, 64)
	}
	if within && err == nil {
		c.Part, err = strconv.Atoi(part)
	}
	if err != nil || c.Epoch < 1 || c.String() != s {
		return Cursor{}, fmt.Errorf("cursor %.80q: want epoch-seq or epoch-seq.part, decimal numbers", s)
	}
	return c, nil
}

// Heard is what a follower of the feed is told: an event, or that it missed
// some, or, with neither, only how far the feed has come.
type Heard struct {
	At    Cursor     // the place behind it, to go on from
	Event *FeedEvent // its Row is 0; nil: nothing happened up to At that was not told
	From  Cursor     // the place just before Event: who goes on from there is told it again

	// Reset says that events before At may have been missed: the place to go
	// on from was of another feed, or so old that it is dropped. The store
	// has them all.
	Reset bool
}
