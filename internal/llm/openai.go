package llm

import (
	"encoding/json"
	"net/http"
	"strings"
)

const (
	openaiName      = "openai"
	openaiURL       = "https://api.openai.com/v1"
	openaiModel     = "gpt-4.1-mini"
	openrouterName  = "openrouter"
	openrouterURL   = "https://openrouter.ai/api/v1"
	openrouterModel = "openai/gpt-4.1-mini"
)

// NewOpenAI asks whoever speaks OpenAI's chat completions: OpenAI itself,
// Ollama, vLLM, LM Studio, by their base URL.
func NewOpenAI(cfg Config) (*Remote, error) {
	return newChat(openaiName, cfg, openaiURL, openaiModel)
}

// NewOpenRouter is NewOpenAI for OpenRouter.
func NewOpenRouter(cfg Config) (*Remote, error) {
	return newChat(openrouterName, cfg, openrouterURL, openrouterModel)
}

func newChat(name string, cfg Config, base, model string) (*Remote, error) {
	r, err := remote(name, cfg, chat{}, base, model)
	if err != nil {
		return nil, err
	}
	r.bearer()
	return r.at("/chat/completions")
}

func (r *Remote) bearer() {
	if r.cfg.Key != "" {
		r.header.Set("Authorization", "Bearer "+r.cfg.Key)
	}
}

// chat is the dialect of chat completions.
type chat struct{}

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
			Tools   []struct {
				Function struct {
					Arguments json.RawMessage `json:"arguments"`
				} `json:"function"`
			} `json:"tool_calls"` // where a server made one of the schema
		} `json:"message"`
	} `json:"choices"`
	Usage struct {
		In  int `json:"prompt_tokens"`
		Out int `json:"completion_tokens"`
	} `json:"usage"`
	Error json.RawMessage `json:"error"`
}

func (chat) request(a asked) any {
	r := chatRequest{Model: a.model, Messages: append([]message{{"system", a.system}}, a.talk...), Temperature: a.temperature}
	if a.schema != nil {
		r.ResponseFormat = map[string]any{"type": "json_schema", "json_schema": map[string]any{
			"name": string(a.task), "strict": true, "schema": a.schema,
		}}
	}
	if a.newLimit {
		r.MaxCompletionTokens = a.maxTokens
	} else {
		r.MaxTokens = a.maxTokens
	}
	return r
}

func (chat) reply(body []byte) reply {
	var res chatResponse
	if err := json.Unmarshal(body, &res); err != nil {
		return reply{fault: FaultBroken, why: "what came is JSON, and no completion"}
	}
	r := reply{model: res.Model, in: res.Usage.In, out: res.Usage.Out}
	switch {
	case len(res.Error) > 0 && string(res.Error) != "null": // OpenRouter says 200 and means it otherwise
		r.fault = FaultBroken
	case len(res.Choices) == 0:
		r.fault, r.why = FaultBroken, "the completion has no choice in it"
	case res.Choices[0].Message.Refusal != "", res.Choices[0].FinishReason == "content_filter":
		r.fault, r.why = FaultRefused, declined
	default:
		m := res.Choices[0].Message
		r.text, r.cut = chatText(m.Content), res.Choices[0].FinishReason == "length"
		for _, tool := range m.Tools {
			if strings.TrimSpace(r.text) == "" {
				r.text = orElse(chatText(tool.Function.Arguments), string(tool.Function.Arguments))
			}
		}
	}
	return r
}

const declined = "the model declined"

func (chat) refusal(status int, body []byte) refusal {
	var doc struct {
		Error struct {
			Code any    `json:"code"`
			Type string `json:"type"`
		} `json:"error"`
	}
	_ = json.Unmarshal(body, &doc) // what is no such document has no code
	said := refusal{code: doc.Error.Type}
	switch c := doc.Error.Code.(type) {
	case string:
		said.code = c
	case float64:
		if status == http.StatusOK {
			said.status = int(c)
		}
	}
	return said
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
	return strings.Join(all, "") // they are pieces of one text
}
