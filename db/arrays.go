package db

import (
	"context"
	"encoding/binary"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// fastArrays lets a connection send lists of texts, numbers and times without
// asking, for each element, what it is and how it is written: the statements
// that move jobs are made of such lists. Everything else is pgx's.
func fastArrays(_ context.Context, conn *pgx.Conn) error {
	m := conn.TypeMap()
	for _, name := range []string{"_text", "_int4", "_int8", "_timestamptz"} {
		t, ok := m.TypeForName(name)
		if !ok {
			continue
		}
		if c, ok := t.Codec.(*pgtype.ArrayCodec); ok {
			m.RegisterType(&pgtype.Type{Name: t.Name, OID: t.OID, Codec: arrays{c}})
		}
	}
	return nil
}

type arrays struct{ *pgtype.ArrayCodec }

func (c arrays) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if format == pgtype.BinaryFormatCode {
		switch value.(type) {
		case []string:
			if c.ElementType.OID == pgtype.TextOID {
				return list[string]{pgtype.TextOID, appendText, func(s string) int { return len(s) }}
			}
		case []int32:
			if c.ElementType.OID == pgtype.Int4OID {
				return list[int32]{pgtype.Int4OID, appendInt4, nil}
			}
		case []int64:
			if c.ElementType.OID == pgtype.Int8OID {
				return list[int64]{pgtype.Int8OID, appendInt8, nil}
			}
		case []time.Time:
			if c.ElementType.OID == pgtype.TimestamptzOID {
				return list[time.Time]{pgtype.TimestamptzOID, appendTime, nil}
			}
		}
	}
	return c.ArrayCodec.PlanEncode(m, oid, format, value)
}

// list writes an array of one dimension in Postgres' binary form.
type list[T any] struct {
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
	buf = slices.Grow(buf, size)
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
