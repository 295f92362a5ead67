package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
)

type serverStatus struct {
	dirFlag
	JSON bool `help:"Print JSON."`
}

func (serverStatus) Help() string {
	return `The exit code is 0 when it runs, 3 when it does not, and 4 when it runs and does not answer.

Examples:

  obs server status
  obs server status --data-dir ./data --json`
}

type statusBody struct {
	Running   bool         `json:"running"`
	Runtime   string       `json:"runtime,omitempty"`
	Version   string       `json:"version,omitempty"`
	PID       int          `json:"pid,omitempty"`
	Port      int          `json:"port,omitempty"`
	URL       string       `json:"url,omitempty"`
	StartedAt string       `json:"startedAt,omitempty"`
	Uptime    int64        `json:"uptime,omitempty"` // seconds
	DataDir   string       `json:"dataDir"`
	Log       string       `json:"log,omitempty"` // of one in the background
	Health    *statusWell  `json:"health,omitempty"`
	Lanes     []statusLane `json:"lanes,omitempty"`
}

type statusWell struct {
	Status  string   `json:"status"` // "ok", "degraded", "silent"
	Reasons []string `json:"reasons"`
}

// statusLane is a lane as /v1/info has it.
type statusLane struct {
	Kind        string `json:"kind"`
	Waiting     int64  `json:"waiting"`
	Active      int64  `json:"active"`
	Delayed     int64  `json:"delayed"`
	Failed      int64  `json:"failed"`
	Completed   int64  `json:"completed"`
	OldestMS    int64  `json:"oldestWaitingMs"`
	Unavailable bool   `json:"unavailable"`
}

func (c serverStatus) Run(ctx context.Context, std boot.Std) error {
	dir, err := c.abs(std)
	if err != nil {
		return err
	}
	s, err := boot.FindServer(dir)
	if errors.Is(err, boot.ErrNoServer) {
		if c.JSON {
			err = printJSON(std.Stdout, statusBody{DataDir: dir})
		} else {
			_, err = fmt.Fprintf(std.Stdout, "obs is not running on %s\n", dir)
		}
		return errors.Join(err, boot.ExitCode(boot.ExitNotRunning))
	}
	if err != nil {
		return err
	}
	body := statusOf(ctx, s, dir)
	if c.JSON {
		err = printJSON(std.Stdout, body)
	} else {
		body.print(std)
	}
	if body.Health.Status == "silent" {
		err = errors.Join(err, boot.ExitCode(boot.ExitSilent))
	}
	return err
}

func statusOf(ctx context.Context, s *boot.Server, dir string) statusBody {
	b := statusBody{
		Running: true, Runtime: s.Runtime, Version: s.Version, PID: s.PID, Port: s.Port, URL: s.URL(), StartedAt: s.StartedAt,
		DataDir: dir, Health: &statusWell{Status: "silent", Reasons: []string{"it does not answer"}},
	}
	if s.Background {
		b.Log = logPath(dir)
	}
	if at, err := time.Parse(time.RFC3339Nano, s.StartedAt); err == nil {
		b.Uptime = int64(time.Since(at).Seconds())
	}
	if len(s.Boundaries) == 0 {
		b.Health.Reasons = []string{"it is starting"}
		return b
	}
	h, err := askHealth(ctx, s.URL())
	if err != nil || h.PID != s.PID { // another program on the port
		return b
	}
	b.Health = &statusWell{Status: h.Status, Reasons: h.Reasons}
	var info struct {
		Lanes []statusLane `json:"queueLanes"`
	}
	if err := ask(ctx, s.URL()+"/v1/info", &info); err != nil {
		b.Health.Reasons = append(b.Health.Reasons, "it does not tell of its lanes")
	}
	b.Lanes = info.Lanes
	return b
}

func (b statusBody) print(std boot.Std) {
	fmt.Fprintln(std.Stdout, "obs is running")
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(std.Stdout, "  %-9s%s\n", name, value)
		}
	}
	row("runtime", b.Runtime)
	row("version", b.Version)
	row("pid", fmt.Sprint(b.PID))
	row("url", b.URL)
	row("uptime", short(time.Duration(b.Uptime)*time.Second))
	row("data", b.DataDir)
	row("log", b.Log)
	row("health", b.Health.Status)
	for _, r := range b.Health.Reasons {
		row("", r)
	}
	if len(b.Lanes) == 0 {
		return
	}
	rows := [][]string{{"LANE", "WAITING", "ACTIVE", "DELAYED", "FAILED", "COMPLETED", "OLDEST"}}
	for _, l := range b.Lanes {
		r := []string{l.Kind}
		for _, n := range []int64{l.Waiting, l.Active, l.Delayed, l.Failed, l.Completed} {
			if l.Unavailable {
				r = append(r, "?")
				continue
			}
			r = append(r, fmt.Sprint(n))
		}
		oldest := "-"
		if l.OldestMS > 0 {
			oldest = short(time.Duration(l.OldestMS) * time.Millisecond)
		}
		rows = append(rows, append(r, oldest))
	}
	fmt.Fprintln(std.Stdout)
	table(std.Stdout, rows)
}

func decode(body []byte, out any) error {
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return nil
}
