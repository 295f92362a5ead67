//go:build unix

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
)

// told is a history of these events, "type process" each.
func told(status events.Status, es ...string) history {
	h := history{job: events.Job{ID: "j", Status: status}}
	for i, e := range es {
		typ, process, _ := strings.Cut(e, " ")
		h.events = append(h.events, events.Event{Version: i + 1, Type: events.Type(typ), Process: process})
	}
	return h
}

func TestEffects(t *testing.T) {
	t.Parallel()
	reclaimed := told(events.StatusCompleted, "queued", "processing a", "reclaimed", "processing b", "completed b")
	lost, won := effect{"j", 2, "a", []string{"k1"}}, effect{"j", 4, "b", []string{"k2", "k3"}}
	for name, c := range map[string]struct {
		history history
		stored  []string
		effects []effect
		finds   string // empty: nothing
	}{
		"as it should be":                {reclaimed, []string{"k3", "k2"}, []effect{lost, won}, ""},
		"the lost attempt left no note":  {reclaimed, []string{"k2", "k3"}, []effect{won}, ""},
		"a lost attempt's is stored":     {reclaimed, []string{"k1"}, []effect{lost, won}, "stored are"},
		"both are stored":                {reclaimed, []string{"k1", "k2", "k3"}, []effect{lost, won}, "stored are"},
		"half is stored":                 {reclaimed, []string{"k2"}, []effect{lost, won}, "stored are"},
		"nothing is stored":              {reclaimed, nil, []effect{lost, won}, "stored are"},
		"completed by nobody":            {reclaimed, []string{"k1"}, []effect{lost}, "its handler never ended"},
		"completed by another":           {reclaimed, []string{"k2", "k3"}, []effect{{"j", 4, "c", won.Keys}}, "c did the attempt that b completed"},
		"one claim was done twice":       {reclaimed, []string{"k2", "k3"}, []effect{won, won}, "two handlers"},
		"brief, by two at once":          {told(events.StatusCompleted, "queued", "enqueued", "processing b", "completed b"), []string{"k2"}, []effect{{"j", 2, "a", []string{"k1"}}, {"j", 2, "b", []string{"k2"}}}, ""},
		"brief, and the other's stored":  {told(events.StatusCompleted, "queued", "processing b", "completed b"), []string{"k1"}, []effect{{"j", 2, "a", []string{"k1"}}, {"j", 2, "b", []string{"k2"}}}, "stored are"},
		"brief, and nobody ended":        {told(events.StatusCompleted, "queued", "processing b", "completed b"), []string{"k1"}, []effect{{"j", 2, "a", []string{"k1"}}}, "its handler never ended"},
		"stored though it was cancelled": {told(events.StatusCancelled, "queued", "processing a", "cancelled"), []string{"k1"}, []effect{lost}, "it is cancelled"},
		"not stored as it was cancelled": {told(events.StatusCancelled, "queued", "processing a", "cancelled"), nil, []effect{lost}, ""},
		"nothing was worth noting":       {told(events.StatusCompleted, "queued", "processing a", "completed a"), nil, []effect{{"j", 2, "a", nil}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stored := map[string][]string{}
			if c.stored != nil {
				stored["j"] = c.stored
			}
			var texts []string
			for _, f := range checkEffects(ledger{"j": c.history}, stored, c.effects) {
				require.Equal(t, "j", f.job)
				texts = append(texts, f.String())
			}
			if c.finds == "" {
				require.Empty(t, texts)
				return
			}
			require.Len(t, texts, 1)
			require.Contains(t, texts[0], c.finds)
		})
	}
}

// Of a session's summaries the last one stays.
func TestASummaryThatWasReplaced(t *testing.T) {
	t.Parallel()
	summary := func(at int64) history {
		h := told(events.StatusCompleted, "queued", "processing a", "completed a")
		h.job.Kind, h.job.SourceID, h.events[0].At = observe.KindSummary, "s", time.Unix(at, 0)
		return h
	}
	summaries := ledger{"first": summary(1), "last": summary(2)}
	wrote := []effect{{"first", 2, "a", []string{"k1"}}, {"last", 2, "a", []string{"k2"}}}
	require.Empty(t, checkEffects(summaries, map[string][]string{"last": {"k2"}}, wrote))
	require.Len(t, checkEffects(summaries, map[string][]string{"first": {"k1"}}, wrote), 1, "the older one stayed")
	require.Len(t, checkEffects(summaries, nil, wrote), 2)
}

func TestEffectsOfNoJob(t *testing.T) {
	t.Parallel()
	found := checkEffects(ledger{}, map[string][]string{"gone": {"k"}}, nil)
	require.Len(t, found, 1)
	require.Contains(t, found[0].String(), "is not there")
}

func TestReadEffects(t *testing.T) {
	t.Parallel()
	got, err := readEffects(strings.NewReader(`{"job":"j","version":2,"process":"a","keys":["k"]}` + "\n"))
	require.NoError(t, err)
	require.Equal(t, []effect{{"j", 2, "a", []string{"k"}}}, got)
	_, err = readEffects(strings.NewReader("{}\n{\"job\":"))
	require.ErrorContains(t, err, "line 2")
}
