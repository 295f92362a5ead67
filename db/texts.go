package db

import (
	"context"
	"encoding/binary"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// Nearly all that we send are lists of texts, and pgx makes of each element an
// allocation and of the list a buffer that grows while it is written: a third
// of all bytes that the door allocated. The same bytes are written here at once.

// textsAtOnce prepares a connection to write lists of texts so.
func textsAtOnce(_ context.Context, conn *pgx.Conn) error {
	m := conn.TypeMap()
	if t, ok := m.TypeForOID(pgtype.TextArrayOID); ok {
		m.RegisterType(&pgtype.Type{Name: t.Name, OID: t.OID, Codec: textsCodec{t.Codec}})
	}
	return nil
}

type textsCodec struct{ pgtype.Codec }

func (c textsCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, ok := value.([]string); ok && format == pgtype.BinaryFormatCode {
		return textsPlan{}
	}
	return c.Codec.PlanEncode(m, oid, format, value)
}

type textsPlan struct{}

func (textsPlan) Encode(value any, buf []byte) ([]byte, error) {
	texts, _ := value.([]string)
	if texts == nil {
		return nil, nil // NULL
	}
	size := 20 + 4*len(texts)
	for _, s := range texts {
		size += len(s)
	}
	buf = slices.Grow(buf, size)
	buf = binary.BigEndian.AppendUint32(buf, 1) // dimension
	buf = binary.BigEndian.AppendUint32(buf, 0) // none is null
	buf = binary.BigEndian.AppendUint32(buf, pgtype.TextOID)
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(texts)))
	buf = binary.BigEndian.AppendUint32(buf, 1) // the first one's number
	for _, s := range texts {
		buf = append(binary.BigEndian.AppendUint32(buf, uint32(len(s))), s...)
	}
	return buf, nil
}
