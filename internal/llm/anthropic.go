package llm

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
)

const (
	anthropicName    = "anthropic"
	anthropicURL     = "https://api.anthropic.com"
	anthropicModel   = "claude-haiku-4-5"
	anthropicVersion = "2023-06-01"
)

// NewAnthropic asks whoever speaks Anthropic's Messages API.
func NewAnthropic(cfg Config) (*Remote, error) {
	r, err := remote(anthropicName, cfg, messages{}, anthropicURL, anthropicModel)
	if err != nil {
		return nil, err
	}
	r.header.Set("Anthropic-Version", anthropicVersion)
	if cfg.Key != "" {
		r.header.Set("X-Api-Key", cfg.Key)
	}
	return r.at("/v1", "/messages")
}

// messages is the dialect of the Messages API. It sends no temperature: from
// Sonnet 5 on that is an error.
type messages struct{}

type messagesRequest struct {
	Model     string         `json:"model"`
	MaxTokens int            `json:"max_tokens"`
	System    string         `json:"system,omitempty"`
	Messages  []message      `json:"messages"`
	Output    map[string]any `json:"output_config,omitempty"`
}

type messagesResponse struct {
	Type    string `json:"type"`
	Model   string `json:"model"`
	Content []struct {
		Type  string          `json:"type"`
		Text  string          `json:"text"`
		Input json.RawMessage `json:"input"` // of a tool, where a proxy made one of the schema
	} `json:"content"`
	StopReason string `json:"stop_reason"`
	Usage      struct {
		In     int `json:"input_tokens"`
		Cached int `json:"cache_read_input_tokens"`
		Cache  int `json:"cache_creation_input_tokens"`
		Out    int `json:"output_tokens"`
	} `json:"usage"`
}

func (messages) request(a asked) any {
	r := messagesRequest{Model: a.model, MaxTokens: a.maxTokens, System: a.system, Messages: a.talk}
	if a.schema != nil {
		r.Output = map[string]any{"format": map[string]any{"type": "json_schema", "schema": a.schema}}
	}
	return r
}

func (messages) reply(body []byte) reply {
	var res messagesResponse
	if err := json.Unmarshal(body, &res); err != nil {
		return reply{fault: FaultBroken, why: "what came is JSON, and no message"}
	}
	r := reply{model: res.Model, in: res.Usage.In + res.Usage.Cached + res.Usage.Cache, out: res.Usage.Out}
	switch {
	case res.Type == "error":
		r.fault = FaultBroken
		return r
	case res.Content == nil:
		r.fault, r.why = FaultBroken, "the message has no content in it"
		return r
	case res.StopReason == "refusal":
		r.fault, r.why = FaultRefused, declined
		return r
	}
	r.cut = res.StopReason == "max_tokens" || res.StopReason == "model_context_window_exceeded"
	var all []string
	for _, c := range res.Content {
		switch {
		case c.Type == "text":
			all = append(all, c.Text)
		case c.Type == "tool_use" && len(c.Input) > 0:
			all = append(all, string(c.Input))
		}
	}
	r.text = strings.Join(all, "\n")
	return r
}

// spent is how Anthropic tells, with a status 400, that there is no credit.
var spent = regexp.MustCompile(`(?i)credit balance is too low|reached your specified api usage limits`)

func (messages) refusal(_ int, body []byte) refusal {
	var doc struct {
		Error struct {
			Type    string `json:"type"`
			Message string `json:"message"`
		} `json:"error"`
	}
	_ = json.Unmarshal(body, &doc)
	said := refusal{code: doc.Error.Type}
	switch {
	case spent.MatchString(doc.Error.Message), doc.Error.Type == "billing_error":
		said.fault = FaultExhausted
	case doc.Error.Type == "overloaded_error":
		said.fault, said.status = FaultBusy, 529
	case doc.Error.Type == "rate_limit_error":
		said.fault, said.status = FaultBusy, http.StatusTooManyRequests
	case doc.Error.Type == "api_error", doc.Error.Type == "timeout_error":
		said.fault, said.status = FaultBroken, http.StatusInternalServerError
	}
	return said
}
