//go:build faults

package fault

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// rule is what happens at one point.
type rule struct {
	action string
	pass   int64 // the first pass that it happens at, from 1
	on     bool  // … and at every later one
	passes atomic.Int64
}

var plan atomic.Pointer[map[string]*rule]

// Arm says what happens where: "relay.published=kill@2,handler.asking=panic@1+"
// kills the process when the relay comes by the second time, and lets every
// handler panic. The actions are kill (SIGKILL), exit (os.Exit in a handler's
// place), panic, hang (for ever, deaf to every context) and memory (all there
// is). Without @ it is the first pass.
func Arm(spec string) error {
	rules := map[string]*rule{}
	for one := range strings.SplitSeq(spec, ",") {
		if one == "" {
			continue
		}
		point, what, ok := strings.Cut(one, "=")
		action, at, _ := strings.Cut(what, "@")
		r := &rule{action: action, pass: 1}
		if at != "" {
			at, r.on = strings.CutSuffix(at, "+")
			n, err := strconv.ParseInt(at, 10, 64)
			if err != nil || n < 1 {
				return fmt.Errorf("fault %q: want a number behind @", one)
			}
			r.pass = n
		}
		if _, known := actions[action]; !ok || !known {
			return fmt.Errorf("fault %q: want point=action, the action one of %v", one, slices.Sorted(maps.Keys(actions)))
		}
		rules[point] = r
	}
	plan.Store(&rules)
	return nil
}

// At does what the plan says about a point.
func At(point string) {
	rules := plan.Load()
	if rules == nil {
		return
	}
	r := (*rules)[point]
	if r == nil {
		return
	}
	n := r.passes.Add(1)
	if n > r.pass && deadly[r.action] {
		select {} // who comes by while the process dies is not to get further than the one it dies of
	}
	if n < r.pass || n > r.pass && !r.on {
		return
	}
	fmt.Fprintf(os.Stderr, "fault: %s at %s\n", r.action, point)
	actions[r.action](point)
}

// deadly are the actions that end the process at once.
var deadly = map[string]bool{"kill": true, "exit": true}

var actions = map[string]func(point string){
	"kill": func(string) {
		if self, err := os.FindProcess(os.Getpid()); err == nil {
			_ = self.Kill()
		}
		select {} // it takes a moment
	},
	"exit":  func(string) { os.Exit(3) },
	"panic": func(point string) { panic("fault at " + point) },
	"hang":  func(string) { <-time.After(time.Hour) },
	"memory": func(string) {
		var all [][]byte
		for {
			all = append(all, make([]byte, 64<<20))
			all[0][0] = byte(len(all))
		}
	},
}
