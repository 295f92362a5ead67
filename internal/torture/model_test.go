//go:build unix

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"
)

// at is a call from one second to another.
func at(start, end int, c call) call {
	c.Start, c.End = time.Duration(start)*time.Second, time.Duration(end)*time.Second
	if c.Code == 0 && c.Error == "" {
		c.Code = 200
	}
	return c
}

func submit(status string) call { return call{Op: opSubmit, Code: 201, Status: status} }
func refuse(op, status string) call {
	return call{Op: op, Code: 409, Error: "a " + status + " job cannot be moved"}
}
func lost(op string) call { return call{Op: op, Error: "cut"} }

// reads is a read of a history of these events.
func reads(status string, history ...string) call {
	return call{Op: opRead, Status: status, Versions: sums(history)}
}

// What clients can be told by a system that works.
func TestModelAcceptsWhatCanBe(t *testing.T) {
	t.Parallel()
	for name, calls := range map[string][]call{
		"the usual": {
			at(0, 1, submit("queued")), at(2, 3, reads("processing", "q", "p")), at(4, 5, reads("completed", "q", "p", "c")),
			at(6, 7, reads("completed", "q", "p", "c")),
		},
		"sent again": {
			at(0, 1, submit("queued")), at(2, 3, submit("processing")), at(4, 5, submit("completed")),
		},
		"the first was not answered": {
			at(0, 1, lost(opSubmit)), at(2, 3, submit("processing")), at(4, 5, reads("completed", "q", "p", "c")),
		},
		"the first was not answered, and came to nothing": {
			at(0, 1, lost(opSubmit)), at(2, 3, call{Op: opRead, Code: 404}), at(4, 5, submit("queued")),
		},
		"waited for": {
			at(0, 9, submit("")), at(0, 9, call{Op: opStatus, Code: 201, Status: "completed"}), at(2, 3, reads("queued", "q")),
		},
		"cancelled and asked for again": {
			at(0, 1, submit("queued")), at(2, 3, call{Op: opCancel, Status: "cancelled"}), at(4, 5, call{Op: opCancel, Already: true, Status: "cancelled"}),
			at(6, 7, call{Op: opRetry, Status: "queued"}), at(8, 9, call{Op: opRetry, Already: true, Status: "queued"}),
			at(10, 11, reads("completed", "q", "x", "q2", "p", "c")), at(12, 13, refuse(opCancel, "completed")), at(12, 13, refuse(opRetry, "completed")),
		},
		"failed and asked for again": {
			at(0, 1, submit("queued")), at(2, 3, reads("failed", "q", "p", "f")), at(4, 5, call{Op: opRetry, Status: "queued"}),
			at(6, 7, reads("processing", "q", "p", "f", "q", "p")),
		},
		"a retry that was not answered took effect late": {
			at(0, 1, submit("queued")), at(2, 3, reads("failed", "q", "f")), at(4, 5, lost(opRetry)), at(6, 7, reads("failed", "q", "f")),
			at(8, 9, reads("queued", "q", "f", "q")),
		},
		"side by side": {
			at(0, 1, submit("queued")), at(2, 9, reads("completed", "q", "p", "c")), at(3, 5, reads("processing", "q", "p")),
		},
		"it was moving": {
			at(0, 1, submit("queued")), at(2, 3, call{Op: opCancel, Code: 409, Error: "the job is changing, try again"}), at(4, 5, reads("queued", "q")),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			res, err := linear(calls, "")
			require.NoError(t, err)
			require.Equal(t, porcupine.Ok, res)
		})
	}
}

// What clients are told by a system that is broken in one way each.
func TestModelRefusesWhatCannotBe(t *testing.T) {
	t.Parallel()
	for name, calls := range map[string][]call{
		"an accepted job that is not there":  {at(0, 1, submit("queued")), at(2, 3, call{Op: opRead, Code: 404})},
		"a job that was never asked for":     {at(0, 1, reads("queued", "q"))},
		"it was there before it was made":    {at(0, 1, reads("queued", "q")), at(2, 3, submit("queued"))},
		"a new job that is done":             {at(0, 1, submit("completed"))},
		"a read that goes back":              {at(0, 1, submit("queued")), at(2, 3, reads("processing", "q", "p")), at(4, 5, reads("queued", "q"))},
		"a past that changes":                {at(0, 1, submit("queued")), at(2, 3, reads("processing", "q", "p")), at(4, 5, reads("completed", "q", "r", "c"))},
		"completed, and then not":            {at(0, 1, submit("queued")), at(2, 3, submit("completed")), at(4, 5, submit("queued"))},
		"completed twice":                    {at(0, 1, submit("queued")), at(2, 3, reads("completed", "q", "p", "c")), at(4, 5, reads("completed", "q", "p", "c", "p", "c"))},
		"an end that goes on by itself":      {at(0, 1, submit("queued")), at(2, 3, reads("failed", "q", "f")), at(4, 5, reads("failed", "q", "f", "f"))},
		"failed, and queued by nobody":       {at(0, 1, submit("queued")), at(2, 3, reads("failed", "q", "f")), at(4, 5, submit("queued"))},
		"cancelled by nobody":                {at(0, 1, submit("queued")), at(2, 3, submit("cancelled"))},
		"a lost cancellation":                {at(0, 1, submit("queued")), at(2, 3, call{Op: opCancel, Status: "cancelled"}), at(4, 5, reads("completed", "q", "p", "c"))},
		"a lost retry":                       {at(0, 1, submit("queued")), at(2, 3, reads("failed", "q", "f")), at(4, 5, call{Op: opRetry, Status: "queued"}), at(6, 7, reads("failed", "q", "f"))},
		"cancelled though it was done":       {at(0, 1, submit("queued")), at(2, 3, submit("completed")), at(4, 5, call{Op: opCancel, Status: "cancelled"})},
		"not to be cancelled for no reason":  {at(0, 1, submit("queued")), at(2, 3, refuse(opCancel, "completed")), at(4, 5, submit("queued"))},
		"asked for again though it was done": {at(0, 1, submit("queued")), at(2, 3, submit("completed")), at(4, 5, call{Op: opRetry, Status: "queued"})},
		"refused for a right it has":         {at(0, 1, submit("queued")), at(2, 3, call{Op: opRead, Code: 403})},
		"a good event that is refused":       {at(0, 1, call{Op: opSubmit, Code: 400})},
		"the retry came before the failure": {
			at(0, 1, submit("queued")), at(2, 3, call{Op: opRetry, Already: true, Status: "queued"}), at(4, 5, submit("failed")), at(6, 7, submit("queued")),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			drawing := filepath.Join(t.TempDir(), "order.html")
			res, err := linear(calls, drawing)
			require.NoError(t, err)
			require.Equal(t, porcupine.Illegal, res)
			html, err := os.ReadFile(drawing)
			require.NoError(t, err)
			require.Contains(t, string(html), calls[0].Op)
		})
	}
}

func TestCallsFindTheirJobs(t *testing.T) {
	t.Parallel()
	jobs := byJob([]call{
		{Op: opSubmit, Key: "a", Error: "cut"},
		{Op: opSubmit, Key: "a", Code: 201, Job: "j1"},
		{Op: opRead, Job: "j1", Code: 200},
		{Op: opSubmit, Key: "a", Tenant: 1, Code: 201, Job: "j2"},
		{Op: opSubmit, Key: "a", Tenant: 1, Code: 503},
		{Op: opMemory, Key: "a", Code: 201},
	})
	require.Len(t, jobs, 2)
	require.Len(t, jobs["j1"], 3)
	require.Len(t, jobs["j2"], 2)
}

// An end without an answer may have made any of its session's summaries.
func TestAnUnansweredEndFitsEachSummary(t *testing.T) {
	t.Parallel()
	end := func(job, status string, code int) call {
		return call{Op: opSubmit, Key: endOf + "s", Job: job, Status: status, Code: code}
	}
	calls := []call{
		at(1, 5, call{Op: opSubmit, Key: endOf + "s", Error: "cut"}),
		at(6, 7, end("j1", "completed", 200)), // nobody was told that it was made
		at(8, 9, end("j2", "queued", 200)),
	}
	for job, cs := range byJob(calls) {
		res, err := linear(cs, "")
		require.NoError(t, err)
		require.Equal(t, porcupine.Ok, res, job)
	}
	res, err := linear(byJob(calls[1:])["j1"], "")
	require.NoError(t, err)
	require.Equal(t, porcupine.Illegal, res, "without it nobody can have made j1")
}

func TestRecordIsReadBack(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "calls.jsonl")
	rec, err := newRecord(path)
	require.NoError(t, err)
	rec.add(
		call{Op: opSubmit, Client: 1, Tenant: 2, Key: "event 1", Job: "j", Start: 1, End: 2, Code: 201, Status: "queued"},
		call{Op: opRead, Job: "j", Start: 3, End: 3, Code: 200, Status: "completed", Versions: sums([]string{"q", "p", "c"})},
		call{Op: opCancel, Job: "j", Start: 4, End: 9, Error: "EOF \x00\n\"", Already: true},
		call{Op: opMemory, Key: "memory 1", ID: "m"},
	)
	calls, err := rec.close()
	require.NoError(t, err)
	require.Equal(t, rec.calls, calls)
}

func TestRecordSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		`{"op":"read"}` + "\n{":           "line 2",
		`{"op":"fly"}`:                    `"fly"`,
		`{"op":"read","start":5,"end":4}`: "before it began",
		`{"op":"read","versions":[-1]}`:   "line 1",
	} {
		_, err := readCalls(strings.NewReader(text))
		require.ErrorContains(t, err, says)
	}
}

func FuzzRecord(f *testing.F) {
	f.Add(`{"op":"submit","client":1,"key":"event 1","job":"j","start":1,"end":2,"code":201,"status":"queued"}` + "\n")
	f.Add(`{"op":"read","job":"j","start":3,"end":4,"code":200,"status":"completed","versions":[1,18446744073709551615]}`)
	f.Add("{\n\n}")
	f.Fuzz(func(t *testing.T, text string) {
		calls, err := readCalls(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, cs := range byJob(calls) {
			for _, c := range cs {
				for _, s := range []jobState{{}, {phase: live, least: 1}, {phase: completed, least: 3, exact: true}} {
					for _, next := range step(s, c) {
						require.GreaterOrEqual(t, next.least, s.least, "a version never goes back")
					}
				}
			}
		}
	})
}
