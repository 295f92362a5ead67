package llm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// NameEmbeddings is what errors and the price table call whoever makes
// vectors.
const NameEmbeddings = "embeddings"

// Bounds of a question for vectors.
const (
	MaxEmbedded   = 64      // texts in one
	maxDimensions = 1 << 14 // of a vector
)

// EmbedConfig says who makes vectors of texts: whoever speaks OpenAI's
// /v1/embeddings. The zero value is nobody.
type EmbedConfig struct {
	Config         // its Provider is not looked at; a Timeout of 0 is a minute
	Dimensions int // that the model is asked for; 0: its own
}

// On reports that somebody is named.
func (c EmbedConfig) On() bool { return c.Model != "" || c.URL != "" }

// Embeddings makes vectors of texts: what two of them mean is the more alike,
// the less their directions differ. It is safe for concurrent use.
type Embeddings struct {
	r          *Remote
	dimensions int
}

// NewEmbeddings asks OpenAI, or whoever has the URL: Ollama, vLLM, LM Studio.
func NewEmbeddings(cfg EmbedConfig) (*Embeddings, error) {
	if cfg.Timeout <= 0 {
		cfg.Timeout = answerTime / 2
	}
	if cfg.Dimensions < 0 || cfg.Dimensions > maxDimensions {
		return nil, fmt.Errorf("provider %s: dimensions are to be from 1 to %d", NameEmbeddings, maxDimensions)
	}
	r, err := remote(NameEmbeddings, cfg.Config, chat{}, openaiURL, "")
	if err != nil {
		return nil, err
	}
	r.bearer()
	if r, err = r.at("/embeddings"); err != nil {
		return nil, err
	}
	return &Embeddings{r, cfg.Dimensions}, nil
}

// Space names what vectors can be compared in: those of one model, cut to the
// same length.
func (e *Embeddings) Space() string {
	if e.dimensions == 0 {
		return e.r.cfg.Model
	}
	return e.r.cfg.Model + "@" + strconv.Itoa(e.dimensions)
}

type embedRequest struct {
	Model      string   `json:"model"`
	Input      []string `json:"input"`
	Format     string   `json:"encoding_format"`
	Dimensions int      `json:"dimensions,omitempty"`
}

type embedResponse struct {
	Data []struct {
		Index  int       `json:"index"`
		Vector []float32 `json:"embedding"`
	} `json:"data"`
	Usage struct {
		In    int `json:"prompt_tokens"`
		Total int `json:"total_tokens"`
	} `json:"usage"`
	Error json.RawMessage `json:"error"`
}

// Embed gives the vector of each text, all of the same number of dimensions
// and of length 1, and what they are counted for, also with an error. There is
// at least one text, and at most [MaxEmbedded]. The error is as that of
// [Provider.Answer].
func (e *Embeddings) Embed(ctx context.Context, texts ...string) ([][]float32, Use, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, e.r.cfg.Timeout, errSlow)
	defer cancel()
	use := Use{Provider: e.r.name, Model: e.r.cfg.Model}
	body, err := exchange(ctx, e.r.t, e.r.hc, e.r.url, e.r.header, embedRequest{e.r.cfg.Model, texts, "float", e.dimensions}, e.r.refused)
	if err != nil {
		return nil, use, err
	}
	var res embedResponse
	if err := json.Unmarshal(body, &res); err != nil {
		return nil, use, e.r.t.error(FaultBroken, 200, 0, errors.New("what came is JSON, and no list of vectors"))
	}
	if len(res.Error) > 0 && string(res.Error) != "null" {
		return nil, use, e.r.refused(200, body)
	}
	use.TokensIn = min(max(res.Usage.In, res.Usage.Total, 0), maxTokens)
	vectors := make([][]float32, len(texts))
	for _, d := range res.Data {
		if d.Index < 0 || d.Index >= len(texts) || vectors[d.Index] != nil {
			return nil, use, e.unfit("a vector for a text that was not asked about")
		}
		if vectors[d.Index], err = e.unit(d.Vector, len(res.Data[0].Vector)); err != nil {
			return nil, use, err
		}
	}
	if len(res.Data) != len(texts) {
		return nil, use, e.unfit(fmt.Sprintf("%d vectors for %d texts", len(res.Data), len(texts)))
	}
	return vectors, use, nil
}

// unit is the vector at length 1.
func (e *Embeddings) unit(v []float32, dimensions int) ([]float32, error) {
	sum := 0.0
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	switch {
	case len(v) == 0 || len(v) > maxDimensions || len(v) != dimensions || e.dimensions > 0 && len(v) != e.dimensions:
		return nil, e.unfit(fmt.Sprintf("a vector of %d dimensions among such of %d", len(v), max(e.dimensions, dimensions)))
	case !(sum > 0) || math.IsInf(sum, 0):
		return nil, e.unfit("a vector without a direction")
	}
	length := math.Sqrt(sum)
	for i := range v {
		v[i] = float32(float64(v[i]) / length)
	}
	return v, nil
}

func (e *Embeddings) unfit(why string) error { return e.r.t.error(FaultAnswer, 0, 0, errors.New(why)) }
