package db

import (
	"context"
	"encoding/binary"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
)

// fastArrays lets a connection send lists of texts, numbers and times without
// asking, for each element, what it is and how it is written: the statements
// that move jobs are made of such lists. Everything else is pgx's.
func fastArrays(_ context.Context, conn *pgx.Conn) error {
	m, shared := conn.TypeMap(), &room{to: conn.PgConn().Frontend()}
	for _, name := range []string{"_text", "_int4", "_int8", "_timestamptz"} {
		t, ok := m.TypeForName(name)
		if !ok {
			continue
		}
		if c, ok := t.Codec.(*pgtype.ArrayCodec); ok {
			m.RegisterType(&pgtype.Type{Name: t.Name, OID: t.OID, Codec: arrays{c, shared}})
		}
	}
	return nil
}

type arrays struct {
	*pgtype.ArrayCodec
	room *room
}

func (c arrays) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if format == pgtype.BinaryFormatCode {
		switch value.(type) {
		case []string:
			if c.ElementType.OID == pgtype.TextOID {
				return list[string]{c.room, pgtype.TextOID, appendText, func(s string) int { return len(s) }}
			}
		case []int32:
			if c.ElementType.OID == pgtype.Int4OID {
				return list[int32]{c.room, pgtype.Int4OID, appendInt4, nil}
			}
		case []int64:
			if c.ElementType.OID == pgtype.Int8OID {
				return list[int64]{c.room, pgtype.Int8OID, appendInt8, nil}
			}
		case []time.Time:
			if c.ElementType.OID == pgtype.TimestamptzOID {
				return list[time.Time]{c.room, pgtype.TimestamptzOID, appendTime, nil}
			}
		}
	}
	return c.ArrayCodec.PlanEncode(m, oid, format, value)
}

// list writes an array of one dimension in Postgres' binary form.
type list[T any] struct {
	room    *room
	element uint32
	append  func(buf []byte, v T) []byte // its length and its bytes
	size    func(v T) int                // of its bytes; nil: at most 8
}

func (l list[T]) Encode(value any, buf []byte) ([]byte, error) {
	all := value.([]T)
	if all == nil {
		return nil, nil // NULL
	}
	size := 20 + 12*len(all)
	if l.size != nil {
		for _, v := range all {
			size += l.size(v)
		}
	}
	buf = l.room.args(buf, size)
	buf = binary.BigEndian.AppendUint32(buf, 1) // dimension
	buf = binary.BigEndian.AppendUint32(buf, 0) // no element is NULL
	buf = binary.BigEndian.AppendUint32(buf, l.element)
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(all)))
	buf = binary.BigEndian.AppendUint32(buf, 1) // the first index
	for _, v := range all {
		buf = l.append(buf, v)
	}
	return buf, nil
}

// room is where a connection writes its lists, and the messages that have them,
// statement after statement: grown list by list, those of a statement came to
// five times their size in garbage. pgx writes all arguments of a statement one
// behind the other into one buffer, copies them into its message before it
// begins the next one, and has a new buffer for messages after each large one.
// So what is written here from the beginning is either new, or the same as was
// there.
type room struct {
	lists, messages []byte
	to              *pgproto3.Frontend
	most            int // bytes of what is to be sent next
}

// mostRoom is how many bytes a connection keeps, of each.
const mostRoom = 512 << 10

// args gives what buf has, with room for n more bytes, and makes room for the
// message that has them.
func (r *room) args(buf []byte, n int) []byte {
	const others = 1 << 10 // what a message has besides
	r.most = len(buf) + n + others
	r.to.Send(r)
	return grow(&r.lists, buf, n)
}

// A room is a message of no bytes.

func (*room) Frontend()                           {}
func (*room) Decode([]byte) error                 { return nil }
func (r *room) Encode(dst []byte) ([]byte, error) { return grow(&r.messages, dst, r.most), nil }

// grow gives what buf has, with room for n more bytes, in what is kept unless
// that would be too much.
func grow(kept *[]byte, buf []byte, n int) []byte {
	need := len(buf) + n
	switch {
	case cap(buf) >= need:
		return buf
	case need > mostRoom:
		return slices.Grow(buf, n)
	case cap(*kept) < need:
		*kept = make([]byte, 0, min(max(2*need, 1<<10), mostRoom))
	}
	return append((*kept)[:0], buf...)
}

func appendText(buf []byte, v string) []byte {
	return append(binary.BigEndian.AppendUint32(buf, uint32(len(v))), v...)
}

func appendInt4(buf []byte, v int32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(buf, 4), uint32(v))
}

func appendInt8(buf []byte, v int64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(buf, 8), uint64(v))
}

// appendTime writes microseconds since 2000, as Postgres counts.
func appendTime(buf []byte, v time.Time) []byte {
	const epoch = 946_684_800 // of Postgres, in seconds
	us := (v.Unix()-epoch)*1_000_000 + int64(v.Nanosecond())/1000
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(buf, 8), uint64(us))
}
