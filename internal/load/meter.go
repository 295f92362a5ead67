package load

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// ticks is how many of the units in which /proc tells processor time make a second: on Linux, for programs, always 100.
// What a process has taken itself is told in nanoseconds by its clock, which matters where there is little to measure.
const ticks = 100

// Process is processes whose time is told under one name.
type Process struct {
	Name string
	PID  int
	Tree bool // with all that it has started, those that have ended included
}

// Self is this process without what it has started.
func Self(name string) Process { return Process{Name: name, PID: os.Getpid()} }

// CPU is the processor time that it has taken; 0 where there is no /proc.
func (p Process) CPU() time.Duration {
	return time.Duration(Meter{p}.read()[p.Name] * float64(time.Second))
}

// Meter reads processor time by process. The zero value reads none.
type Meter []Process

// Start reads the meter, for [Meter.Complete]. Garbage of what ran before is collected first, or this measurement would
// pay for it.
func (m Meter) Start() map[string]float64 {
	if len(m) > 0 {
		runtime.GC()
	}
	return m.read()
}

// Complete adds to the sample what the processes took since before, unless it has that already.
func (m Meter) Complete(s *Sample, before map[string]float64) {
	if s.CPU == nil {
		after := m.read()
		for name, seconds := range after {
			if s.CPU == nil {
				s.CPU = map[string]float64{}
			}
			s.CPU[name] = math.Round((seconds-before[name])*1e6) / 1e6
		}
	}
	s.Load = Average()
}

// stat is what matters of /proc/<pid>/stat.
type stat struct {
	parent int
	own    float64 // seconds
	ended  float64 // of children that have ended and were waited for
}

// read gives seconds by name; empty where there is no /proc.
func (m Meter) read() map[string]float64 {
	if len(m) == 0 {
		return nil
	}
	all := map[int]stat{}
	paths, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is good
	for _, path := range paths {
		if pid, s, ok := readStat(path); ok {
			all[pid] = s
		}
	}
	if len(all) == 0 {
		return nil
	}
	sum := map[string]float64{}
	for _, p := range m {
		if !p.Tree {
			sum[p.Name] += all[p.PID].own
			continue
		}
		for pid, s := range all {
			if under(all, pid, p.PID) {
				sum[p.Name] += s.own + s.ended
			}
		}
	}
	return sum
}

// under reports whether a process is root or was started by it or by one of those.
func under(all map[int]stat, pid, root int) bool {
	for range 16 { // deep enough; a loop cannot be, but what we read is not one instant
		if pid == root {
			return true
		}
		s, ok := all[pid]
		if !ok || s.parent <= 1 {
			return false
		}
		pid = s.parent
	}
	return false
}

func readStat(path string) (pid int, s stat, ok bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, s, false // it has just ended
	}
	pid, err = strconv.Atoi(filepath.Base(filepath.Dir(path)))
	if err != nil {
		return 0, s, false
	}
	// The name in brackets may hold anything: what counts comes after the last bracket.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 15 {
		return 0, s, false
	}
	number := func(i int) float64 {
		n, _ := strconv.ParseFloat(string(fields[i]), 64) // the kernel writes numbers
		return n
	}
	s.parent = int(number(1))
	if own, ok := clock(pid); ok {
		s.own = own.Seconds()
	} else {
		s.own = (number(11) + number(12)) / ticks
	}
	s.ended = (number(13) + number(14)) / ticks
	return pid, s, true
}

// Average is the machine's over the last minute; 0 where it is not told.
func Average() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), " ")
	n, _ := strconv.ParseFloat(first, 64) // the kernel writes a number
	return n
}

// Memory is what a process holds in memory now and what it held at most, in bytes; 0 where it is not told.
func Memory(pid int) (now, most int64) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, 0
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		name, value, _ := strings.Cut(line, ":")
		kb, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(value, "kB")), 10, 64)
		switch name {
		case "VmRSS":
			now = kb << 10
		case "VmHWM":
			most = kb << 10
		}
	}
	return now, most
}
