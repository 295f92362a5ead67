package llm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
)

const (
	openaiName  = "openai"
	openaiURL   = "https://api.openai.com/v1"
	openaiModel = "gpt-4.1-mini"
)

// OpenAI asks whoever speaks OpenAI's chat completions: OpenAI itself,
// OpenRouter, Ollama, vLLM, LM Studio, by their base URL.
type OpenAI struct {
	cfg    Config
	url    string
	header http.Header
	hc     *http.Client
	t      trouble

	// What this server does not take is found out once.
	noSchema      atomic.Bool // structured output
	noTemperature atomic.Bool
	newLimit      atomic.Bool // max_completion_tokens and not max_tokens
}

// NewOpenAI makes one. It asks nothing yet.
func NewOpenAI(cfg Config) (*OpenAI, error) {
	if cfg.URL == "" {
		cfg.URL = openaiURL
		if cfg.Key == "" {
			return nil, errors.New("provider openai: it needs a key, or the URL of a server that needs none")
		}
	}
	u, err := endpoint(cfg.URL, "/chat/completions")
	if err != nil {
		return nil, fmt.Errorf("provider openai: %w", err)
	}
	if strings.ContainsFunc(cfg.Key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("provider openai: its key has characters that no key has")
	}
	cfg.Model = orElse(cfg.Model, openaiModel)
	if cfg.Timeout <= 0 {
		cfg.Timeout = answerTime
	}
	if cfg.MaxTokens <= 0 {
		cfg.MaxTokens = 4096
	}
	o := &OpenAI{cfg: cfg, url: u, header: http.Header{}, hc: client(), t: trouble{openaiName}}
	if cfg.Key != "" {
		o.header.Set("Authorization", "Bearer "+cfg.Key)
	}
	return o, nil
}

// Name implements [Provider].
func (*OpenAI) Name() string { return openaiName }

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type chatRequest struct {
	Model               string         `json:"model"`
	Messages            []message      `json:"messages"`
	Temperature         *float64       `json:"temperature,omitempty"`
	MaxTokens           int            `json:"max_tokens,omitempty"`
	MaxCompletionTokens int            `json:"max_completion_tokens,omitempty"`
	ResponseFormat      map[string]any `json:"response_format,omitempty"`
}

type chatResponse struct {
	Model   string `json:"model"`
	Choices []struct {
		FinishReason string `json:"finish_reason"`
		Message      struct {
			Content json.RawMessage `json:"content"`
			Refusal string          `json:"refusal"`
		} `json:"message"`
	} `json:"choices"`
	Usage struct {
		In  int `json:"prompt_tokens"`
		Out int `json:"completion_tokens"`
	} `json:"usage"`
	Error json.RawMessage `json:"error"`
}

// Answer implements [Provider]. An answer that cannot be read is asked for
// once more, with what was wrong with it.
func (o *OpenAI) Answer(ctx context.Context, q Question) (Answer, error) {
	var in, out int
	var talk []message
	for try := 0; ; try++ {
		res, text, err := o.ask(ctx, q, talk)
		in, out = in+max(res.Usage.In, 0), out+max(res.Usage.Out, 0)
		if err != nil {
			return Answer{TokensIn: in, TokensOut: out}, err
		}
		a, err := read(q.Task, text)
		a.Model, a.TokensIn, a.TokensOut = tidy(orElse(res.Model, o.cfg.Model), maxTitle), in, out
		if err == nil {
			return a, nil
		}
		if res.Choices[0].FinishReason == "length" {
			err = fmt.Errorf("it was cut at %d tokens: %w", o.cfg.MaxTokens, err)
		}
		if try > 0 {
			return a, o.t.error(FaultAnswer, 0, 0, err)
		}
		talk = []message{
			{"assistant", cutBytes(orElse(text, "(nothing)"), maxPayload)},
			{"user", "That could not be read: " + err.Error() + ". Answer once more, in the form that was asked for and with nothing around it."},
		}
	}
}

// ask is one exchange, or some more until it is known what the server takes.
func (o *OpenAI) ask(ctx context.Context, q Question, talk []message) (chatResponse, string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, o.cfg.Timeout, errSlow)
	defer cancel()
	for {
		learned, request := false, o.request(q, talk)
		body, err := exchange(ctx, o.t, o.hc, o.url, o.header, request, func(status int, body []byte) error {
			learned = o.learn(request, status, body)
			return o.refusal(status, body)
		})
		if learned {
			continue
		}
		if err != nil {
			return chatResponse{}, "", err
		}
		var res chatResponse
		if err := json.Unmarshal(body, &res); err != nil {
			return res, "", o.t.error(FaultBroken, http.StatusOK, 0, errors.New("what came is JSON, and no completion"))
		}
		if len(res.Error) > 0 && string(res.Error) != "null" { // OpenRouter says 200 and means it otherwise
			return res, "", o.refusal(http.StatusOK, body)
		}
		if len(res.Choices) == 0 {
			return res, "", o.t.error(FaultBroken, http.StatusOK, 0, errors.New("the completion has no choice in it"))
		}
		if res.Choices[0].Message.Refusal != "" {
			return res, "", o.t.error(FaultRefused, http.StatusOK, 0, errors.New("the model declined"))
		}
		return res, chatText(res.Choices[0].Message.Content), nil
	}
}

func (o *OpenAI) request(q Question, talk []message) chatRequest {
	r := chatRequest{Model: o.cfg.Model}
	p := q.Prompt(!o.noSchema.Load())
	if p.Schema != nil {
		r.ResponseFormat = map[string]any{"type": "json_schema", "json_schema": map[string]any{
			"name": string(q.Task), "strict": true, "schema": p.Schema,
		}}
	}
	if o.newLimit.Load() {
		r.MaxCompletionTokens = o.cfg.MaxTokens
	} else {
		r.MaxTokens = o.cfg.MaxTokens
	}
	if !o.noTemperature.Load() {
		r.Temperature = new(0.3)
	}
	r.Messages = append([]message{{"system", p.System}, {"user", p.User}}, talk...)
	return r
}

// learn reports whether the refusal of a request told something about the
// server that makes it worth asking again in another way.
func (o *OpenAI) learn(r chatRequest, status int, body []byte) bool {
	if status != http.StatusBadRequest && status != http.StatusUnprocessableEntity && status != http.StatusNotImplemented {
		return false
	}
	said := strings.ToLower(string(body))
	says := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(said, w) })
	}
	switch {
	case r.MaxTokens > 0 && says("max_completion_tokens"):
		o.newLimit.Store(true)
	case r.ResponseFormat != nil && says("response_format", "json_schema", "structured output"):
		o.noSchema.Store(true)
	case r.Temperature != nil && says("temperature"):
		o.noTemperature.Store(true)
	default:
		return false
	}
	return true
}

var plainCode = regexp.MustCompile(`^[a-z0-9_.-]{1,48}$`)

// refusal makes an error of a status and the error in the body, of which only
// the code goes into ours: the message may quote the key or the prompt.
func (o *OpenAI) refusal(status int, body []byte) error {
	var doc struct {
		Error struct {
			Code any    `json:"code"`
			Type string `json:"type"`
		} `json:"error"`
	}
	_ = json.Unmarshal(body, &doc) // what is no such document has no code
	code := doc.Error.Type
	switch c := doc.Error.Code.(type) {
	case string:
		code = c
	case float64:
		if status == http.StatusOK && c >= 400 && c < 600 {
			status = int(c)
		}
	}
	if status == http.StatusOK {
		return o.t.error(FaultBroken, status, 0, errors.New("an error in place of a completion"))
	}
	why := "it says no"
	if plainCode.MatchString(code) && !(o.cfg.Key != "" && strings.Contains(code, o.cfg.Key)) {
		why = code
	}
	return o.t.error(classify(status, body), status, 0, errors.New(why))
}

// chatText is the content of a message: text, or parts of it.
func chatText(content json.RawMessage) string {
	var text string
	if json.Unmarshal(content, &text) == nil {
		return text
	}
	var parts []struct {
		Text string `json:"text"`
	}
	if json.Unmarshal(content, &parts) != nil {
		return ""
	}
	var all []string
	for _, p := range parts {
		all = append(all, p.Text)
	}
	return strings.Join(all, "\n")
}
