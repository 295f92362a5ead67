package pipeline

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Join makes commits that are written together: write is called once for all
// of them that share a transaction, after the other commits, with their parts
// in the order in which they came. So a statement for many rows takes the
// place of many statements, which is most of what a short job costs. When
// write fails, the jobs of its parts are settled one by one: each gets a
// transaction, and a call of write, of its own.
//
// Call it once for a kind of writing and keep what it returns: the parts of
// two Joins never meet.
func Join[T any](write func(ctx context.Context, tx pgx.Tx, parts []T) error) func(part T) Commit {
	type group struct{ parts []T }
	return func(part T) Commit {
		return func(ctx context.Context, tx pgx.Tx) error {
			all, ok := ctx.Value(joinedKey{}).(*joined)
			if !ok { // alone, or in nobody's worker
				return write(ctx, tx, []T{part})
			}
			key := &write
			g, ok := all.groups[key].(*group)
			if !ok {
				g = &group{}
				if all.groups == nil {
					all.groups = map[any]any{}
				}
				all.groups[key] = g
				all.writes = append(all.writes, func(ctx context.Context, tx pgx.Tx) error { return write(ctx, tx, g.parts) })
			}
			g.parts = append(g.parts, part)
			return nil
		}
	}
}

// joined is what the commits of one transaction have left to be written.
type joined struct {
	groups map[any]any
	writes []Commit
}

type joinedKey struct{}

func (j *joined) write(ctx context.Context, tx pgx.Tx) error {
	for _, write := range j.writes {
		if err := write(ctx, tx); err != nil {
			return err
		}
	}
	return nil
}
