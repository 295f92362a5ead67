package boot

import (
	"time"

	"github.com/seed-245eaa15/obs/internal/llm"
)

// EmbedFlags say who makes vectors of what observations say. Servers and
// workers are told the same.
type EmbedFlags struct {
	Model      string `name:"embed-model" var:"OBS_EMBED_MODEL" placeholder:"MODEL" group:"Embeddings:" help:"Searches also find what says the same in other words, by vectors of this model: text-embedding-3-small, nomic-embed-text. Without one there are none. Another model has all observations embedded anew. The same for servers and workers."`
	URL        string `name:"embed-url" var:"OBS_EMBED_URL" placeholder:"URL" group:"Embeddings:" help:"Whoever speaks OpenAI's /v1/embeddings, such as http://127.0.0.1:11434/v1 (Ollama, vLLM, LM Studio), if not OpenAI."`
	Key        string `name:"embed-key" var:"OBS_EMBED_KEY" placeholder:"KEY" group:"Embeddings:" help:"Its key. Better in the variable or a file. For OpenAI also in OPENAI_API_KEY."`
	KeyFile    string `name:"embed-key-file" var:"OBS_EMBED_KEY_FILE" placeholder:"FILE" group:"Embeddings:" help:"The file that holds its key."`
	Dimensions string `name:"embed-dimensions" var:"OBS_EMBED_DIMENSIONS" default:"0" placeholder:"N" group:"Embeddings:" help:"Of a vector, for a model that can be asked for fewer than it has; 0 is its own number."`
	Timeout    string `name:"embed-timeout" var:"OBS_EMBED_TIMEOUT" default:"1m" placeholder:"TIME" group:"Embeddings:" help:"How long the vectors of 64 observations may take."`
	Patience   string `name:"embed-search-timeout" var:"OBS_EMBED_SEARCH_TIMEOUT" default:"1s" placeholder:"TIME" group:"Embeddings:" help:"How long a search waits for the vector of its query, before it ranks by text alone and says so."`
	Floor      string `name:"embed-floor" var:"OBS_EMBED_FLOOR" default:"0.25" placeholder:"X" group:"Embeddings:" help:"The least likeness (cosine, 0 to 1) at which an observation is found by its vector alone. Some models find everything alike by 0.5: raise it for those."`

	Known string `kong:"-"` // from the variable of the provider's own tools
}

// AfterApply is called by the parser.
func (f *EmbedFlags) AfterApply(std Std) error {
	f.Known = knownKey(std, "openai")
	return nil
}

func (f EmbedFlags) read(r *reader, c *Config) {
	var e llm.EmbedConfig
	e.Model, e.URL = f.Model, f.URL
	e.Key = r.secret("embed-key", f.Key, f.KeyFile)
	if e.URL == "" && e.Key == "" { // nobody else is sent that one
		e.Key = f.Known
	}
	e.Dimensions = r.integer("embed-dimensions", f.Dimensions, 0, 16_384)
	e.Timeout = r.duration("embed-timeout", f.Timeout, 100*time.Millisecond)
	c.Near.Patience = r.duration("embed-search-timeout", f.Patience, 10*time.Millisecond)
	c.Near.Floor = r.fraction("embed-floor", f.Floor)
	if !e.On() {
		if e.Key != "" && f.Key+f.KeyFile != "" {
			r.add("embed-key", "without --embed-model (OBS_EMBED_MODEL) nothing is embedded")
		}
		return
	}
	var err error
	if c.Near.Embeddings, err = llm.NewEmbeddings(e); err != nil {
		r.add("embed-model", err.Error())
	}
}
