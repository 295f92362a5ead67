package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// client speaks to the API over HTTP, as an agent's hook does.
type client struct {
	base, key string
}

// call sends a request and reads the answer into out. Any answer that is not
// a success is an error.
func (c client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("%s %s: %w", method, path, err)
		}
		body = bytes.NewReader(b)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err // it names method and URL
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, path, res.Status, cut(string(answer), 300))
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

// What the demo reads of the API's answers; docs/api.md has all of it.
type (
	seenJob struct {
		ID         string  `json:"id"`
		Status     string  `json:"status"`
		SourceType string  `json:"sourceType"`
		SourceID   string  `json:"sourceId"`
		LastError  *string `json:"lastError"`
	}
	seenEvent struct {
		Event struct {
			ID string `json:"id"`
		} `json:"event"`
		Job *seenJob `json:"generationJob"`
	}
	seenObservation struct {
		ID       string `json:"id"`
		Kind     string `json:"kind"`
		Content  string `json:"content"`
		Metadata struct {
			Title         string   `json:"title"`
			Subtitle      string   `json:"subtitle"`
			Narrative     string   `json:"narrative"`
			Facts         []string `json:"facts"`
			FilesModified []string `json:"files_modified"`
		} `json:"metadata"`
		Job *string `json:"createdByJobId"`
	}
	happened struct {
		Version int       `json:"version"`
		Type    string    `json:"type"`
		Status  string    `json:"status"`
		Attempt int       `json:"attempt"`
		At      time.Time `json:"at"`
		Actor   *string   `json:"actor"`
		Process *string   `json:"process"`
	}
)

func (c client) startSession(ctx context.Context, project, session, prompt string) (string, error) {
	var out struct {
		Session struct {
			ID string `json:"id"`
		} `json:"session"`
	}
	err := c.call(ctx, http.MethodPost, "/v1/sessions/start", map[string]any{
		"projectId": project, "externalSessionId": session, "contentSessionId": session, "platformSource": "claude",
		"metadata": map[string]any{"prompt": prompt},
	}, &out)
	return out.Session.ID, err
}

func (c client) endSession(ctx context.Context, id string) (*seenJob, error) {
	var out struct {
		Job *seenJob `json:"generationJob"`
	}
	err := c.call(ctx, http.MethodPost, "/v1/sessions/"+id+"/end", nil, &out)
	return out.Job, err
}

func (c client) send(ctx context.Context, events []map[string]any) ([]seenEvent, error) {
	if len(events) == 1 {
		var out seenEvent
		err := c.call(ctx, http.MethodPost, "/v1/events", events[0], &out)
		return []seenEvent{out}, err
	}
	var out struct {
		Events []seenEvent `json:"events"`
	}
	err := c.call(ctx, http.MethodPost, "/v1/events/batch", events, &out)
	return out.Events, err
}

// jobs lists all jobs, oldest first.
func (c client) jobs(ctx context.Context) ([]seenJob, error) {
	var all []seenJob
	for {
		var out struct {
			Jobs  []seenJob `json:"jobs"`
			Total int       `json:"total"`
		}
		err := c.call(ctx, http.MethodGet, fmt.Sprintf("/v1/jobs?limit=200&offset=%d", len(all)), nil, &out)
		if err != nil {
			return nil, err
		}
		all = append(all, out.Jobs...)
		if len(out.Jobs) == 0 || len(all) >= out.Total {
			return all, nil
		}
	}
}

func (c client) history(ctx context.Context, job string) ([]happened, error) {
	var out struct {
		History []happened `json:"history"`
	}
	err := c.call(ctx, http.MethodGet, "/v1/jobs/"+job, nil, &out)
	return out.History, err
}

func (c client) observationsOf(ctx context.Context, event string) ([]seenObservation, error) {
	var out struct {
		Observations []seenObservation `json:"observations"`
	}
	err := c.call(ctx, http.MethodGet, "/v1/events/"+event+"/observations", nil, &out)
	return out.Observations, err
}

func (c client) search(ctx context.Context, project, query string, limit int) ([]seenObservation, error) {
	var out struct {
		Observations []seenObservation `json:"observations"`
	}
	err := c.call(ctx, http.MethodPost, "/v1/search", map[string]any{"projectId": project, "query": query, "limit": limit}, &out)
	return out.Observations, err
}
