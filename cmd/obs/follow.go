package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
)

type followCommand struct {
	URL     string `var:"OBS_URL" default:"http://${addr}" placeholder:"URL" help:"Where the API is."`
	Key     string `var:"OBS_KEY" placeholder:"KEY" help:"An API key that may read; others on this machine can see what is on a command line."`
	Project string `var:"OBS_PROJECT" placeholder:"ID" help:"Only this project's."`
	After   string `placeholder:"ID" help:"Go on behind this id, as --json prints it; by default from now on."`
	JSON    bool   `help:"Print JSON, one object a line."`
}

func (followCommand) Help() string {
	return `Prints what happens to jobs, and the observations that they make, until it is interrupted. When the server is away it
tries again, and leaves nothing out.

Examples:

  OBS_KEY=obs_… obs follow
  OBS_KEY=obs_… obs follow --json | jq 'select(.event == "observation") | .data.metadata.title'`
}

const (
	followAgain   = 2 * time.Second  // before it connects again
	followSilence = 45 * time.Second // three heartbeats of the server
	maxFrameLine  = 4 << 20          // bytes
)

// frame is one event of the stream.
type frame struct {
	ID    string          `json:"id"`
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
}

func (c followCommand) Run(ctx context.Context, std boot.Std) error {
	base, err := url.Parse(c.URL)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return boot.Misused("--url (OBS_URL): got %q, want http://host:port", c.URL)
	}
	if c.Key == "" {
		return boot.Misused("--key (OBS_KEY): it is needed")
	}
	at := base.JoinPath("/v1/stream")
	if c.Project != "" {
		at.RawQuery = url.Values{"project": {c.Project}}.Encode()
	}
	last := c.After
	for away := false; ; {
		began := last
		err := c.connect(ctx, at.String(), &last, std.Stdout)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was told to stop
		}
		if refused, ok := errors.AsType[*refusedError](err); ok {
			return refused
		}
		if unread, ok := errors.AsType[*unreadError](err); ok {
			return unread.err
		}
		if away = away && last == began; !away {
			fmt.Fprintf(std.Stderr, "obs: %s; trying again\n", cut(err.Error(), 300))
			away = true
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followAgain):
		}
	}
}

// refusedError is an answer that asking again does not change.
type refusedError struct{ status, message string }

func (e *refusedError) Error() string { return e.status + ": " + e.message }

// unreadError says that what was to be printed could not be: no server is to blame.
type unreadError struct{ err error }

func (e *unreadError) Error() string { return e.err.Error() }

// connect prints one stream until it ends, which is an error. last moves with
// what is printed.
func (c followCommand) connect(ctx context.Context, at string, last *string, out io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(followSilence, func() { cancel(errors.New("the server is silent")) })
	defer silence.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.Key)
	if *last != "" {
		req.Header.Set("Last-Event-Id", *last)
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }} // the key is for this host
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(res.Body, 4<<10)) // what there is of it
		var told struct{ Message string }
		_ = json.Unmarshal(body, &told) // another server's page has none
		if res.StatusCode < 500 && res.StatusCode != http.StatusTooManyRequests {
			return &refusedError{res.Status, told.Message}
		}
		return fmt.Errorf("%s: %s", res.Status, told.Message)
	}
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, maxFrameLine)
	f := frame{ID: *last}
	for lines.Scan() {
		silence.Reset(followSilence)
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case field == "id":
			f.ID = value
		case field == "event":
			f.Event = value
		case field == "data":
			f.Data = json.RawMessage(value)
		case lines.Text() == "":
			if f.Event != "" {
				if err := c.print(f, out); err != nil {
					return err
				}
			}
			*last = f.ID
			f = frame{ID: *last}
		}
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return errors.New("the server has ended the stream")
}

func (c followCommand) print(f frame, out io.Writer) error {
	if c.JSON {
		line, err := json.Marshal(f)
		if err != nil {
			return fmt.Errorf("the server sent what is no JSON: %w", err)
		}
		return write(out, append(line, '\n'))
	}
	var d struct {
		JobID, Type, Kind, Content, JobType string
		Attempt                             int
		At                                  time.Time
		Created                             int64 `json:"createdAtEpoch"`
		Reason, Process                     *string
		Metadata                            struct{ Title string }
	}
	if err := json.Unmarshal(f.Data, &d); err != nil {
		return fmt.Errorf("the server sent what is no JSON: %w", err)
	}
	var b bytes.Buffer
	switch f.Event {
	case "job":
		fmt.Fprintf(&b, "%s  %-15s %s  attempt %d", d.At.Local().Format(time.TimeOnly), d.Type, d.JobID, d.Attempt)
		if d.Reason != nil {
			fmt.Fprintf(&b, "  %s", cut(*d.Reason, 100))
		}
	case "observation":
		title := d.Metadata.Title
		if title == "" {
			title = d.Content
		}
		fmt.Fprintf(&b, "%s  %-15s %s: %s", time.UnixMilli(d.Created).Format(time.TimeOnly), "observation", cut(d.Kind, 100), cut(title, 100))
	case "reset":
		b.WriteString("something may be missing here: obs jobs list --since … has all")
	default:
		return nil // of a newer server
	}
	b.WriteByte('\n')
	return write(out, b.Bytes())
}

func write(out io.Writer, line []byte) error {
	if _, err := out.Write(line); err != nil {
		return &unreadError{err}
	}
	return nil
}
