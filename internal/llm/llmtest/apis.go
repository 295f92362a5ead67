package llmtest

import (
	"encoding/json"
	"strings"
)

// question reads a request of any of the APIs.
func question(path string, raw []byte) (q Question, ok bool) {
	switch {
	case strings.HasSuffix(path, "/v1/chat/completions"):
		q.API = "openai"
		return q, json.Unmarshal(raw, &q) == nil
	case strings.HasSuffix(path, "/v1/embeddings"):
		q.API = "embeddings"
		return q, json.Unmarshal(raw, &q) == nil && len(q.Input) > 0
	case strings.HasSuffix(path, "/v1/messages"):
		var body struct {
			Question
			System string `json:"system"`
			Output *struct {
				Format *format `json:"format"`
			} `json:"output_config"`
		}
		err := json.Unmarshal(raw, &body)
		q = body.Question
		q.Messages = append([]Message{{"system", body.System}}, q.Messages...)
		if q.API = "anthropic"; body.Output != nil {
			q.Format = body.Output.Format
		}
		return q, err == nil
	case strings.HasSuffix(path, ":generateContent"):
		return gemini(path, raw)
	}
	return q, false
}

func gemini(path string, raw []byte) (Question, bool) {
	var body struct {
		System struct {
			Parts []struct {
				Text string `json:"text"`
			} `json:"parts"`
		} `json:"systemInstruction"`
		Contents []struct {
			Role  string `json:"role"`
			Parts []struct {
				Text string `json:"text"`
			} `json:"parts"`
		} `json:"contents"`
		Config struct {
			Temperature *float64        `json:"temperature"`
			MaxTokens   int             `json:"maxOutputTokens"`
			MIMEType    string          `json:"responseMimeType"`
			Schema      json.RawMessage `json:"responseJsonSchema"`
		} `json:"generationConfig"`
	}
	err := json.Unmarshal(raw, &body)
	model := strings.TrimSuffix(path[strings.LastIndex(path, "/models/")+len("/models/"):], ":generateContent")
	q := Question{API: "gemini", Model: model, MaxTokens: body.Config.MaxTokens, Temperature: body.Config.Temperature}
	if body.Config.MIMEType == "application/json" && len(body.Config.Schema) > 0 {
		q.Format = &format{"json_schema"}
	}
	q.Messages = []Message{{Role: "system"}}
	for _, p := range body.System.Parts {
		q.Messages[0].Content += p.Text
	}
	for _, c := range body.Contents {
		m := Message{Role: c.Role}
		if c.Role == "model" {
			m.Role = "assistant"
		}
		for _, p := range c.Parts {
			m.Content += p.Text
		}
		q.Messages = append(q.Messages, m)
	}
	return q, err == nil && strings.Contains(path, "/models/")
}

// completion is an answer of the API that was asked: 100 tokens in, 20 out.
func (q Question) completion(text string) []byte {
	var doc any
	switch q.API {
	case "embeddings":
		return q.vectors(func(all []map[string]any) []map[string]any { return all })
	case "anthropic":
		doc = map[string]any{
			"id": "msg_1", "type": "message", "role": "assistant", "model": "loopback-1", "stop_reason": "end_turn",
			"content": []any{map[string]any{"type": "text", "text": text}},
			"usage":   map[string]int{"input_tokens": 100, "output_tokens": 20},
		}
	case "gemini":
		doc = map[string]any{
			"candidates":    []any{map[string]any{"content": map[string]any{"role": "model", "parts": []any{map[string]any{"text": text}}}, "finishReason": "STOP"}},
			"usageMetadata": map[string]int{"promptTokenCount": 100, "candidatesTokenCount": 20, "totalTokenCount": 120}, "modelVersion": "loopback-1",
		}
	default:
		doc = map[string]any{
			"id": "c", "object": "chat.completion", "model": "loopback-1",
			"choices": []any{map[string]any{"index": 0, "finish_reason": "stop", "message": map[string]any{"role": "assistant", "content": text}}},
			"usage":   map[string]int{"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
		}
	}
	b, err := json.Marshal(doc)
	if err != nil {
		panic(err)
	}
	return b
}
