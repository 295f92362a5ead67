package db

import (
	"bytes"
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// rawJSON prepares a connection to hand over a jsonb that is wanted as it is
// without parsing it twice, as encoding/json does to copy it: what Postgres
// sends is JSON.
func rawJSON(_ context.Context, conn *pgx.Conn) error {
	conn.TypeMap().RegisterType(&pgtype.Type{Name: "jsonb", OID: pgtype.JSONBOID, Codec: &pgtype.JSONBCodec{
		Marshal: json.Marshal,
		Unmarshal: func(text []byte, into any) error {
			if raw, ok := into.(*json.RawMessage); ok {
				*raw = bytes.Clone(text)
				return nil
			}
			return json.Unmarshal(text, into)
		},
	}})
	return nil
}
