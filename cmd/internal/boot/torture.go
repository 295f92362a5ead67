//go:build faults

package boot

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/internal/observe"
)

// tortured gives a worker of a fault test the provider that OBS_FAULTS_PROVIDER
// describes, and lets it note in the file OBS_FAULTS_EFFECTS what each attempt
// is about to store.
func (p *Process) tortured(c observe.Config) observe.Config {
	if file := os.Getenv("OBS_FAULTS_PROVIDER"); file != "" && c.Provider != nil {
		c.Provider = &moody{Provider: c.Provider, file: file}
	}
	if file := os.Getenv("OBS_FAULTS_EFFECTS"); file != "" {
		c.Writing = func(job events.Job, keys []string) error { return noteEffect(file, p.ID, job, keys) }
	}
	return c
}

// noteEffect appends one line, in one write, so that processes that are
// killed leave whole lines.
func noteEffect(file, process string, job events.Job, keys []string) error {
	line, err := json.Marshal(map[string]any{"job": job.ID, "version": job.Version, "process": process, "keys": keys})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

// moody is a provider in the mood that a file says. What it writes is never
// the same twice, so that one can tell whose attempt was stored.
type moody struct {
	llm.Provider
	file string
}

// mood is how often, of all questions, something goes wrong.
type mood struct {
	SlowMS  int     `json:"slowMs"`  // each answer takes up to so long
	TakesMS int     `json:"takesMs"` // and so long besides
	Busy    float64 `json:"busy"`
	Refused float64 `json:"refused"`
	Panics  float64 `json:"panics"`
	Huge    int     `json:"huge"`  // bytes of words behind each narrative
	Dirty   bool    `json:"dirty"` // the narrative holds what no text may
}

func (m *moody) Answer(ctx context.Context, q llm.Question) (llm.Answer, error) {
	var now mood
	text, err := os.ReadFile(m.file)
	if err == nil {
		err = json.Unmarshal(text, &now)
	}
	if err != nil {
		return llm.Answer{}, fmt.Errorf("read the mood: %w", err)
	}
	if takes := now.TakesMS + mathrand.IntN(now.SlowMS+1); takes > 0 {
		select {
		case <-time.After(time.Duration(takes) * time.Millisecond):
		case <-ctx.Done():
			return llm.Answer{}, ctx.Err()
		}
	}
	dice := mathrand.Float64()
	switch {
	case dice < now.Busy:
		return llm.Answer{}, &llm.Error{Provider: m.Name(), Fault: llm.FaultBusy, Status: 529, Err: errors.New("the test wants it so")}
	case dice < now.Busy+now.Refused:
		return llm.Answer{}, &llm.Error{Provider: m.Name(), Fault: llm.FaultRefused, Status: 400, Err: errors.New("the test wants it so")}
	case dice < now.Busy+now.Refused+now.Panics:
		panic("the test wants it so")
	}
	answer, err := m.Provider.Answer(ctx, q)
	once := " [" + rand.Text() + "]"
	for i := range answer.Observations {
		answer.Observations[i].Narrative += once
		if now.Dirty {
			answer.Observations[i].Narrative = "\x00\xff\xfe" + answer.Observations[i].Narrative + "\x00"
			answer.Observations[i].Facts = append(answer.Observations[i].Facts, "\xc3\x28\x00")
		}
		if word := " " + rand.Text(); now.Huge > 0 {
			answer.Observations[i].Narrative += strings.Repeat(word, now.Huge/len(word))
		}
	}
	if answer.Summary != nil {
		answer.Summary.Notes += once
	}
	return answer, err
}
