package llm

import (
	_ "embed"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"
)

//go:embed prices.txt
var prices string

// Prices says what tokens cost. The zero value knows no price.
type Prices struct {
	lines []price
}

// price is a line of the table. Its rates are in millionths of a US dollar for
// a million tokens, so that they are whole numbers.
type price struct {
	provider, model string // patterns
	in, out         int64
	letters         int // that are no wildcards
}

// Bounds that keep a cost within 63 bits.
const (
	maxPrice  = 10_000 // US dollars for a million tokens
	maxTokens = 100_000_000
	maxPrices = 10_000 // lines
)

// DefaultPrices is the table that comes with obs, as text.
func DefaultPrices() string { return prices }

// ParsePrices reads a table: a line has a provider, a model, and the price of a
// million tokens in US dollars, those asked and those answered. `#` begins a
// comment. The error names the line.
func ParsePrices(text string) (Prices, error) {
	var p Prices
	n := 0
	for line := range strings.Lines(text) {
		n++
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		one, err := parsePrice(words)
		switch {
		case err != nil:
			return Prices{}, fmt.Errorf("line %d: %w", n, err)
		case len(p.lines) == maxPrices:
			return Prices{}, fmt.Errorf("line %d: more than %d prices", n, maxPrices)
		}
		p.lines = append(p.lines, one)
	}
	return p, nil
}

func parsePrice(words []string) (price, error) {
	if len(words) != 4 {
		return price{}, fmt.Errorf("want a provider, a model and two prices, got %d words", len(words))
	}
	one := price{provider: words[0], model: words[1]}
	for _, pattern := range words[:2] {
		if _, err := path.Match(pattern, ""); err != nil || len(pattern) > 200 || !utf8.ValidString(pattern) {
			return price{}, fmt.Errorf("%.80q is no name and no pattern", pattern)
		}
		one.letters += len(pattern) - strings.Count(pattern, "*")
	}
	var err error
	if one.in, err = micros(words[2]); err == nil {
		one.out, err = micros(words[3])
	}
	return one, err
}

// micros reads US dollars as millionths of them.
func micros(s string) (int64, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= 0 && f <= maxPrice) {
		return 0, fmt.Errorf("%.40q is no price from 0 to %d", s, maxPrice)
	}
	return int64(f*1e6 + 0.5), nil
}

// ErrNoPrice says that a model's price is not in the table.
var ErrNoPrice = errors.New("the price table does not have it")

// Cost is what a use costs, in millionths of a US dollar, rounded up.
func (p Prices) Cost(u Use) (int64, error) {
	best := -1
	for i, l := range p.lines {
		if best >= 0 && l.letters < p.lines[best].letters {
			continue
		}
		if matches(l.provider, u.Provider) && matches(l.model, u.Model) {
			best = i
		}
	}
	if best < 0 {
		return 0, fmt.Errorf("model %.80q of %.80q: %w", u.Model, u.Provider, ErrNoPrice)
	}
	in, out := int64(min(max(u.TokensIn, 0), maxTokens)), int64(min(max(u.TokensOut, 0), maxTokens))
	const million = 1_000_000
	return (in*p.lines[best].in+million-1)/million + (out*p.lines[best].out+million-1)/million, nil
}

func matches(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}
