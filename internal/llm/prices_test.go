package llm_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/llm"
)

func TestPricesThatComeWithIt(t *testing.T) {
	t.Parallel()
	p, err := llm.ParsePrices(llm.DefaultPrices())
	require.NoError(t, err)
	for _, tt := range []struct {
		use  llm.Use
		want int64
	}{
		{llm.Use{Provider: "anthropic", Model: "claude-haiku-4-5-20251001", TokensIn: 1_000_000, TokensOut: 1_000_000}, 6_000_000},
		{llm.Use{Provider: "anthropic", Model: "claude-sonnet-4-6", TokensIn: 2000, TokensOut: 500}, 6000 + 7500},
		{llm.Use{Provider: "anthropic", Model: "claude-sonnet-5", TokensIn: 1_000_000}, 2_000_000},
		{llm.Use{Provider: "anthropic", Model: "claude-opus-4-20250514", TokensIn: 1_000_000}, 15_000_000},
		{llm.Use{Provider: "openai", Model: "gpt-4.1-mini-2025-04-14", TokensIn: 1, TokensOut: 1}, 1 + 2},
		{llm.Use{Provider: "openai", Model: "gpt-4.1-2025-04-14", TokensIn: 1_000_000}, 2_000_000},
		{llm.Use{Provider: "gemini", Model: "gemini-2.5-flash-lite", TokensOut: 1_000_000}, 400_000},
		{llm.Use{Provider: "gemini", Model: "gemini-3.5-flash-lite", TokensOut: 1_000_000}, 1_500_000},
		{llm.Use{Provider: "openrouter", Model: "deepseek/deepseek-r1:free", TokensOut: 1_000_000}, 0},
		{llm.Use{Provider: "anthropic", Model: "claude-haiku-4-5", TokensIn: -5, TokensOut: -5}, 0},
	} {
		cost, err := p.Cost(tt.use)
		require.NoError(t, err)
		require.Equal(t, tt.want, cost, "%+v", tt.use)
	}
	_, err = p.Cost(llm.Use{Provider: "openai", Model: "llama3.2", TokensIn: 1})
	require.ErrorIs(t, err, llm.ErrNoPrice)
	for _, name := range llm.Providers() { // the default models have one
		if name == "offline" {
			continue
		}
		model := map[string]string{"anthropic": "claude-haiku-4-5", "gemini": "gemini-flash-lite-latest", "openai": "gpt-4.1-mini", "openrouter": "openai/gpt-4.1-mini"}[name]
		_, err := p.Cost(llm.Use{Provider: name, Model: model, TokensIn: 1})
		require.NoError(t, err, name)
	}
}

func TestPricesOfOnesOwn(t *testing.T) {
	t.Parallel()
	p, err := llm.ParsePrices("# mine\n\n*  *  1 2 # all others\nopenai llama* 0 0\nopenai llama3.2 0.000001 1e-3\nopenai llama3.2 0 3\n")
	require.NoError(t, err)
	for model, want := range map[string]int64{"x": 1, "llama3": 0, "llama3.2": 0} {
		cost, err := p.Cost(llm.Use{Provider: "openai", Model: model, TokensIn: 1})
		require.NoError(t, err)
		require.Equal(t, want, cost, model)
	}
	cost, err := p.Cost(llm.Use{Provider: "openai", Model: "llama3.2", TokensOut: 1_000_000_000})
	require.NoError(t, err)
	require.EqualValues(t, 300_000_000, cost, "tokens are bounded")
	for want, text := range map[string]string{
		"line 2: want a provider":      "a b 1 2\na b 1",
		"line 1: \"-1\" is no price":   "a b -1 2",
		"line 1: \"NaN\" is no price":  "a b 1 NaN",
		"line 1: \"1e99\" is no price": "a b 1e99 1",
		"line 1: \"[\" is no name":     "[ b 1 1",
	} {
		_, err := llm.ParsePrices(text)
		require.ErrorContains(t, err, want)
	}
	_, err = llm.Prices{}.Cost(llm.Use{})
	require.ErrorIs(t, err, llm.ErrNoPrice)
}

// FuzzPrices reads any table: it is an error, or a table whose costs are never
// negative and grow with the tokens.
func FuzzPrices(f *testing.F) {
	f.Add(llm.DefaultPrices(), "anthropic", "claude-haiku-4-5", 100, 20)
	f.Add("* * 1 2", "a", "b", 1<<62, -1)
	f.Add("a [a-z]* 10000 1e-9\na \\* 0 0", "a", "b", 1, 1)
	f.Fuzz(func(t *testing.T, text, provider, model string, in, out int) {
		p, err := llm.ParsePrices(text)
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		cost, err := p.Cost(llm.Use{Provider: provider, Model: model, TokensIn: in, TokensOut: out})
		require.GreaterOrEqual(t, cost, int64(0))
		if err != nil {
			require.ErrorIs(t, err, llm.ErrNoPrice)
			return
		}
		half, err := p.Cost(llm.Use{Provider: provider, Model: model, TokensIn: in / 2, TokensOut: out / 2})
		require.NoError(t, err)
		require.LessOrEqual(t, half, cost, "half as many do not cost more")
	})
}
