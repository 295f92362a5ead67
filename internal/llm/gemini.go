package llm

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	geminiName  = "gemini"
	geminiURL   = "https://generativelanguage.googleapis.com"
	geminiModel = "gemini-flash-lite-latest"
)

// NewGemini asks whoever speaks the generateContent of Google's Gemini API.
func NewGemini(cfg Config) (*Remote, error) {
	r, err := remote(geminiName, cfg, gemini{}, geminiURL, geminiModel)
	if err != nil {
		return nil, err
	}
	if cfg.Key != "" { // and not in the URL, where theirs have it in the examples
		r.header.Set("X-Goog-Api-Key", cfg.Key)
	}
	return r.at("/v1beta", "/models/"+strings.TrimPrefix(r.cfg.Model, "models/")+":generateContent")
}

// gemini is the dialect of generateContent.
type gemini struct{}

type geminiPart struct {
	Text    string `json:"text"`
	Thought bool   `json:"thought,omitempty"`
}

type geminiContent struct {
	Role  string       `json:"role,omitempty"`
	Parts []geminiPart `json:"parts"`
}

type geminiRequest struct {
	System     *geminiContent   `json:"systemInstruction,omitempty"`
	Contents   []geminiContent  `json:"contents"`
	Generation geminiGeneration `json:"generationConfig"`
}

type geminiGeneration struct {
	Temperature *float64       `json:"temperature,omitempty"`
	MaxTokens   int            `json:"maxOutputTokens"`
	MIMEType    string         `json:"responseMimeType,omitempty"`
	Schema      map[string]any `json:"responseJsonSchema,omitempty"`
}

type geminiResponse struct {
	Model      string `json:"modelVersion"`
	Candidates []struct {
		Content      geminiContent `json:"content"`
		FinishReason string        `json:"finishReason"`
	} `json:"candidates"`
	Feedback struct {
		BlockReason string `json:"blockReason"`
	} `json:"promptFeedback"`
	Usage struct {
		In       int `json:"promptTokenCount"`
		Out      int `json:"candidatesTokenCount"`
		Thoughts int `json:"thoughtsTokenCount"`
	} `json:"usageMetadata"`
	Error json.RawMessage `json:"error"`
}

func (gemini) request(a asked) any {
	r := geminiRequest{System: &geminiContent{Parts: []geminiPart{{Text: a.system}}}, Generation: geminiGeneration{Temperature: a.temperature, MaxTokens: a.maxTokens}}
	for _, m := range a.talk {
		role := m.Role
		if role == "assistant" {
			role = "model"
		}
		r.Contents = append(r.Contents, geminiContent{role, []geminiPart{{Text: m.Content}}})
	}
	if a.schema != nil {
		r.Generation.MIMEType, r.Generation.Schema = "application/json", a.schema
	}
	return r
}

func (gemini) reply(body []byte) reply {
	var res geminiResponse
	if err := json.Unmarshal(body, &res); err != nil {
		return reply{fault: FaultBroken, why: "what came is JSON, and no content"}
	}
	r := reply{model: res.Model, in: res.Usage.In, out: res.Usage.Out + res.Usage.Thoughts}
	switch {
	case len(res.Error) > 0 && string(res.Error) != "null":
		r.fault = FaultBroken
		return r
	case res.Feedback.BlockReason != "":
		r.fault, r.why = FaultRefused, declined
		return r
	case len(res.Candidates) == 0:
		r.fault, r.why = FaultBroken, "there is no candidate in it"
		return r
	}
	c := res.Candidates[0]
	switch c.FinishReason {
	case "SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII":
		r.fault, r.why = FaultRefused, declined
		return r
	case "MAX_TOKENS":
		r.cut = true
	}
	var text strings.Builder
	for _, p := range c.Content.Parts { // they are pieces of one text
		if !p.Thought {
			text.WriteString(p.Text)
		}
	}
	r.text = text.String()
	return r
}

func (gemini) refusal(_ int, body []byte) refusal {
	var doc struct {
		Error struct {
			Code    int    `json:"code"`
			Status  string `json:"status"`
			Details []struct {
				Reason     string `json:"reason"`
				RetryDelay string `json:"retryDelay"`
				Violations []struct {
					Quota string `json:"quotaId"`
				} `json:"violations"`
			} `json:"details"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &doc) != nil { // some of its doors answer with a list of one
		var list []json.RawMessage
		if json.Unmarshal(body, &list) == nil && len(list) > 0 {
			_ = json.Unmarshal(list[0], &doc)
		}
	}
	e := doc.Error
	said := refusal{code: e.Status, status: e.Code}
	for _, d := range e.Details {
		if d.Reason == "API_KEY_INVALID" { // with a status 400
			said.code, said.fault = d.Reason, FaultDenied
		}
		said.after = max(said.after, retryDelay(d.RetryDelay))
		for _, v := range d.Violations {
			if strings.Contains(v.Quota, "PerDay") {
				said.fault = FaultExhausted
			}
		}
	}
	// Its word for every 429 is RESOURCE_EXHAUSTED, and its message speaks of a
	// quota, also where it is the quota of a minute.
	if e.Code == http.StatusTooManyRequests && said.fault == "" {
		said.fault = FaultBusy
	}
	return said
}

// retryDelay reads a duration as Google writes it: "43s", "1.5s".
func retryDelay(s string) time.Duration {
	f, err := strconv.ParseFloat(strings.TrimSuffix(s, "s"), 64)
	if err != nil || !(f > 0) {
		return 0
	}
	return time.Duration(min(f, maxAfter.Seconds()) * float64(time.Second))
}
