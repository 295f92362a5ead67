//go:build unix

package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Size is what the plan has to know of the world.
type size struct {
	apis, relays, workers, nodes int
}

// A fault is one thing that goes wrong, from At on, for as long as For.
type fault struct {
	At, For time.Duration
	Kind    string
	On      string // what it happens to, such as worker-2, or the link worker-2:postgres
}

func (f fault) String() string {
	return fmt.Sprintf("%8s  %-16s %-22s for %s", f.At.Round(time.Millisecond), f.Kind, f.On, f.For.Round(time.Millisecond))
}

// plan is a schedule of faults, in the order of their beginnings.
type plan []fault

func (p plan) String() string {
	var b strings.Builder
	for _, f := range p {
		fmt.Fprintln(&b, f)
	}
	return b.String()
}

// The programs and services that faults happen to.
const (
	partAPI      = "api"
	partRelay    = "relay"
	partWorker   = "worker"
	partNATS     = "nats"
	partPostgres = "postgres"
	partClients  = "clients"
	partProvider = "provider"
)

// The kinds of fault.
const (
	killProcess   = "kill"        // SIGKILL, and started again when it is over
	freezeProcess = "freeze"      // SIGSTOP past every lease, then SIGCONT
	endProcess    = "end"         // SIGTERM, as a deployment does, and started again
	crashPostgres = "crash"       // SIGQUIT: an immediate shutdown
	cutSessions   = "sessions"    // pg_terminate_backend of all
	rollBack      = "roll back"   // NATS starts on an older copy of its directory
	deleteJobs    = "delete jobs" // the stream JOBS
	deleteEvents  = "delete events"
	deleteLanes   = "delete lanes" // all consumers
	purgeJobs     = "purge"        // every message of JOBS
	stepDown      = "step down"    // the leaders of both streams
	killTwo       = "kill two"     // of three nodes
	cutLink       = "cut"          // connections reset, new ones refused
	halfOpenLink  = "half open"    // silence
	loseLink      = "lose"         // silence, then it is reset: what was on its way never arrives
	holdAnswers   = "no answers"   // what is asked arrives, the answer does not; then it is reset
	delayLink     = "delay"
	slowHandlers  = "slow"
	busyProvider  = "busy"
)

// kindsOf lists what can happen, each with the parts that it can happen to.
func kindsOf(s size) []fault {
	links := []string{
		partAPI + ":postgres", partAPI + ":nats", partRelay + ":postgres", partRelay + ":nats",
		partWorker + ":postgres", partWorker + ":nats", partClients + ":api",
	}
	var kinds []fault
	add := func(kind string, parts ...string) {
		for _, part := range parts {
			kinds = append(kinds, fault{Kind: kind, On: part})
		}
	}
	add(killProcess, partAPI, partRelay, partWorker, partNATS, partPostgres)
	add(freezeProcess, partAPI, partRelay, partWorker, partNATS)
	add(endProcess, partAPI, partRelay, partWorker)
	add(crashPostgres, partPostgres)
	add(cutSessions, partPostgres)
	add(deleteJobs, partNATS)
	add(deleteEvents, partNATS)
	add(deleteLanes, partNATS)
	add(purgeJobs, partNATS)
	if s.nodes == 1 {
		add(rollBack, partNATS)
	} else {
		add(stepDown, partNATS)
		add(killTwo, partNATS)
	}
	for _, how := range []string{cutLink, halfOpenLink, loseLink, holdAnswers, delayLink} {
		add(how, links...)
	}
	add(slowHandlers, partProvider)
	add(busyProvider, partProvider)
	return kinds
}

const (
	between  = 900 * time.Millisecond // from one fault to the next, on average
	warmUp   = 2 * time.Second        // before the first
	longRun  = 3 * time.Minute        // from here on a freeze may outlast even the broker's AckWait
	longTime = 35 * time.Second
)

// newPlan deals the faults out over the duration. It rests on nothing but its
// arguments. All kinds come before any comes twice, and nothing has two
// faults at once.
func newPlan(seed uint64, duration time.Duration, s size) plan {
	r := rand.New(rand.NewPCG(seed, 0x0b5_70e7))
	var p plan
	var deck []fault
	busy := map[string]time.Duration{}
	for at := warmUp; at < duration; at += time.Duration(float64(between) * min(r.ExpFloat64(), 4)) {
		if len(deck) == 0 {
			deck = kindsOf(s)
			r.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		}
		f := deck[0]
		f.At, f.For = at, lasts(r, f.Kind, duration)
		if f.At+f.For > duration {
			f.For = duration - f.At
		}
		f.On = target(r, f, s)
		free := true
		for _, place := range places(f) {
			free = free && busy[place] <= at
		}
		if !free { // it stays on top of the deck for the next time, below another
			if len(deck) > 1 {
				deck[0], deck[1] = deck[1], deck[0]
			}
			continue
		}
		deck = deck[1:]
		for _, place := range places(f) {
			busy[place] = f.At + f.For + 200*time.Millisecond
		}
		p = append(p, f)
	}
	return p
}

// places are what may have one fault at a time.
func places(f fault) []string {
	if f.On == partProvider || strings.Contains(f.On, ":") {
		return []string{f.On}
	}
	part, _, _ := strings.Cut(f.On, "-")
	if part == partNATS { // one node at a time, or there is no majority for most of the time
		return []string{partNATS}
	}
	return []string{f.On}
}

// lasts says how long a fault goes on.
func lasts(r *rand.Rand, kind string, duration time.Duration) time.Duration {
	span := func(from, to time.Duration) time.Duration { return from + time.Duration(r.Int64N(int64(to-from))) }
	switch kind {
	case freezeProcess:
		if duration >= longRun && r.IntN(4) == 0 {
			return span(longTime, longTime+5*time.Second)
		}
		return span(4*time.Second, 9*time.Second)
	case killProcess, crashPostgres:
		return span(50*time.Millisecond, 3*time.Second)
	case killTwo, rollBack:
		return span(time.Second, 5*time.Second)
	case cutLink, halfOpenLink, loseLink, holdAnswers:
		return span(200*time.Millisecond, 8*time.Second)
	case delayLink, slowHandlers, busyProvider:
		return span(2*time.Second, 8*time.Second)
	default: // done at once
		return span(100*time.Millisecond, 500*time.Millisecond)
	}
}

// target picks which one of a part's processes it is.
func target(r *rand.Rand, f fault, s size) string {
	part, to, isLink := strings.Cut(f.On, ":")
	n := map[string]int{partAPI: s.apis, partRelay: s.relays, partWorker: s.workers, partClients: s.apis}[part]
	if part == partNATS && slices.Contains([]string{killProcess, freezeProcess, killTwo}, f.Kind) {
		n = s.nodes
	}
	if n == 0 {
		return f.On
	}
	one := fmt.Sprintf("%s-%d", part, 1+r.IntN(n))
	if isLink {
		return one + ":" + to
	}
	return one
}
