package eventstest_test

import (
	"github.com/seed-245eaa15/obs/events/eventstest"
	"github.com/seed-245eaa15/obs/outbox"
	"github.com/seed-245eaa15/obs/pipeline"
)

// Memory fits by its shape alone.
var (
	_ outbox.Store    = (*eventstest.Memory)(nil)
	_ outbox.Feed     = (*eventstest.Memory)(nil)
	_ pipeline.Ledger = (*eventstest.Memory)(nil)
)
