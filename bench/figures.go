package main

import (
	"context"
	"slices"

	"github.com/seed-245eaa15/obs/internal/load"
)

// figure is one thing that is measured of one contender.
type figure struct {
	who, what string // the id is who.what
	title     string // of the contender, in tables and charts
	unit      string // what N counts
	once      bool   // one run is enough, since it lasts by itself
	synced    bool   // its nats-server syncs always
	run       func(ctx context.Context, e *env) (load.Sample, error)
}

func (f figure) id() string { return f.who + "." + f.what }

// group is figures that are compared with each other: they take turns.
type group struct {
	name    string
	title   string
	figures []figure
}

// groups are all figures, in the order in which they are measured.
func groups(o options) []group {
	return slices.Concat(limitGroups(o), jobGroups(o), wholeGroups(o))
}
