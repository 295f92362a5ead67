package boot

import (
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/seed-245eaa15/obs/api"
	"github.com/seed-245eaa15/obs/internal/llm"
)

// ProviderFlags say who writes the observations.
type ProviderFlags struct {
	Provider  string `name:"provider" var:"OBS_PROVIDER" default:"offline" placeholder:"NAME,…" group:"Provider:" help:"Who writes the observations: anthropic, gemini, openai (whoever speaks its API), openrouter, or offline, which needs no key and no network. Of several the first is asked, and the next ones while it refuses or is away."`
	Model     string `name:"provider-model" aliases:"model" var:"OBS_PROVIDER_MODEL" placeholder:"[NAME=]MODEL,…" group:"Provider:" help:"Its model; of several providers the first one's, or each by its name: anthropic=claude-haiku-4-5,openai=gpt-4.1-mini. Also --model."`
	URL       string `name:"provider-url" aliases:"base-url" var:"OBS_PROVIDER_URL" placeholder:"[NAME=]URL,…" group:"Provider:" help:"Its API's base URL, such as http://127.0.0.1:11434/v1, if not its own. Also --base-url."`
	Key       string `name:"provider-key" var:"OBS_PROVIDER_KEY" placeholder:"[NAME=]KEY,…" group:"Provider:" help:"Its key. Better in the variable or a file: others can read a command line. Without one it is in ANTHROPIC_API_KEY, GEMINI_API_KEY, OPENAI_API_KEY or OPENROUTER_API_KEY."`
	KeyFile   string `name:"provider-key-file" var:"OBS_PROVIDER_KEY_FILE" placeholder:"[NAME=]FILE,…" group:"Provider:" help:"The file that holds its key."`
	Answer    string `name:"provider-timeout" var:"OBS_PROVIDER_TIMEOUT" default:"2m" placeholder:"TIME" group:"Provider:" help:"How long one answer may take."`
	MaxTokens string `name:"provider-max-tokens" var:"OBS_PROVIDER_MAX_TOKENS" default:"4096" placeholder:"N" group:"Provider:" help:"Tokens of one answer, at most; a model that thinks spends them on that too."`
	PriceFlags

	Known map[string]string `kong:"-"` // keys from the variables that the providers' own tools read, by the provider's name
}

// PriceFlags say what models cost.
type PriceFlags struct {
	Prices string `name:"prices" var:"OBS_PRICES" placeholder:"FILE" group:"Provider:" help:"What models cost, in place of the table that comes with obs; see obs prices."`
}

func (f PriceFlags) read(r *reader, c *Config) {
	var err error
	if c.Prices, err = ReadPrices(f.Prices); err != nil {
		r.add("prices", err.Error())
	}
}

// keyVariables are where people have their keys already.
var keyVariables = map[string][]string{
	"anthropic":  {"ANTHROPIC_API_KEY"},
	"gemini":     {"GEMINI_API_KEY", "GOOGLE_API_KEY"},
	"openai":     {"OPENAI_API_KEY"},
	"openrouter": {"OPENROUTER_API_KEY"},
}

// KeyVariables are those that are set and hold a key of the providers, which
// are named with commas between.
func KeyVariables(std Std, providers string) []string {
	var set []string
	for name := range strings.SplitSeq(providers, ",") {
		for _, v := range keyVariables[strings.TrimSpace(name)] {
			if key, ok := std.LookupEnv(v); ok && key != "" {
				set = append(set, v)
			}
		}
	}
	return set
}

// knownKey is a provider's key from the variables of its own tools, or "".
func knownKey(std Std, provider string) string {
	for _, v := range keyVariables[provider] {
		key, _ := std.LookupEnv(v)
		if key = strings.TrimSpace(key); key != "" {
			return key
		}
	}
	return ""
}

// AfterApply is called by the parser.
func (f *ProviderFlags) AfterApply(std Std) error {
	f.Known = map[string]string{}
	for name := range keyVariables {
		f.Known[name] = knownKey(std, name)
	}
	return nil
}

func (f ProviderFlags) read(r *reader, c *Config) {
	c.Providers = nil
	for name := range strings.SplitSeq(f.Provider, ",") {
		if name = strings.TrimSpace(name); name != "" {
			c.Providers = append(c.Providers, llm.Config{Provider: name})
		}
	}
	timeout := r.duration("provider-timeout", f.Answer, 100*time.Millisecond)
	tokens := r.integer("provider-max-tokens", f.MaxTokens, 16, 1_000_000)
	models, urls := r.each("provider-model", f.Model, c.Providers), r.each("provider-url", f.URL, c.Providers)
	keys, files := r.each("provider-key", f.Key, c.Providers), r.each("provider-key-file", f.KeyFile, c.Providers)
	for i := range c.Providers {
		p := &c.Providers[i]
		p.Model, p.URL, p.Timeout, p.MaxTokens = models[p.Provider], urls[p.Provider], timeout, tokens
		if p.Key = r.secret("provider-key", keys[p.Provider], files[p.Provider]); p.Key == "" && files[p.Provider] == "" {
			p.Key = f.Known[p.Provider]
		}
	}
	f.PriceFlags.read(r, c)
	if _, err := llm.OpenAll(llm.Pace{}, c.Providers...); err != nil {
		r.add("provider", err.Error())
	}
}

// ReadPrices reads a table of prices; without a file it is the one that comes
// with obs.
func ReadPrices(file string) (llm.Prices, error) {
	text := llm.DefaultPrices()
	if file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return llm.Prices{}, err
		}
		text = string(b)
	}
	return llm.ParsePrices(text)
}

// each reads a setting of several providers: name=value, with commas between.
// A value without a name is the first one's. What is wrong is told without the
// value, which may be a key.
func (r *reader) each(flag, text string, providers []llm.Config) map[string]string {
	all := map[string]string{}
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		name, value, ok := strings.Cut(item, "=")
		if !ok || !slices.Contains(llm.Providers(), name) {
			name, value = "", item
			if len(providers) > 0 {
				name = providers[0].Provider
			}
		}
		switch {
		case !slices.ContainsFunc(providers, func(p llm.Config) bool { return p.Provider == name }):
			r.add(flag, "it is for "+name+", which --provider (OBS_PROVIDER) does not name")
		case all[name] != "":
			r.add(flag, "it has two for "+name+"; want name=value,name=value")
		}
		all[name] = strings.TrimSpace(value)
	}
	return all
}

// OpenProvider opens the providers. What becomes of one that rests while
// others are asked is logged.
func (c Config) OpenProvider(log *slog.Logger) (llm.Provider, error) {
	return llm.OpenAll(llm.Pace{Pause: c.Breaker.Pause, Longest: c.Breaker.Longest, Told: func(name string, until time.Time, why error) {
		if until.IsZero() {
			log.Info("the provider works again", "provider", name)
			return
		}
		log.Warn("the provider rests, the next one is asked", "provider", name, "until", until.UTC().Format(time.RFC3339), "err", why)
	}}, c.Providers...)
}

// resting is a provider that tells which of its own are not asked for now.
type resting interface{ Resting() []llm.Resting }

// providerCheck tells of the providers where there are several: it is well as
// long as one of them is asked.
func providerCheck(p llm.Provider) (c api.Check, several bool) {
	f, several := p.(resting)
	if !several {
		return c, false
	}
	all := f.Resting()
	c = api.Check{Name: "provider", OK: len(all) <= strings.Count(p.Name(), ",")}
	var why []string
	for _, one := range all {
		why = append(why, one.Provider+" rests until "+one.Until.UTC().Format(time.RFC3339)+": "+one.Why)
	}
	c.Reason = strings.Join(why, "; ")
	if c.OK {
		c.Note = c.Reason
	}
	return c, true
}

// restUntil is until when each of several providers rests, as Unix time; 0 when
// it works.
func restUntil(p llm.Provider) map[string]float64 {
	f, several := p.(resting)
	if !several {
		return nil
	}
	all := map[string]float64{}
	for name := range strings.SplitSeq(p.Name(), ",") {
		all[name] = 0
	}
	for _, one := range f.Resting() {
		all[one.Provider] = float64(one.Until.UnixMilli()) / 1000
	}
	return all
}
