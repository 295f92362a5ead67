package llm_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/internal/llm/llmtest"
)

// scripted is a provider that fares as it is told, in virtual time, where no
// socket works.
type scripted struct {
	name  string
	fault llm.Fault // empty: it answers
	after time.Duration
	asked int
}

func (s *scripted) Name() string { return s.name }

func (s *scripted) Answer(ctx context.Context, _ llm.Question) (llm.Answer, error) {
	s.asked++
	if err := ctx.Err(); err != nil {
		return llm.Answer{}, err
	}
	a := llm.Answer{Provider: s.name, Model: "m", TokensIn: 3, Skipped: true}
	if s.fault != "" {
		return a, &llm.Error{Provider: s.name, Fault: s.fault, After: s.after, Err: errors.New("as the test wants")}
	}
	return a, nil
}

func faultOf(t require.TestingT, err error) *llm.Error {
	fault, ok := errors.AsType[*llm.Error](err)
	require.True(t, ok, "%v", err)
	return fault
}

// One provider after the other is away, over HTTP and in its own API's words:
// the next one answers, and the first comes back.
func TestFailoverOverHTTP(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	var away atomic.Int32 // how many of the APIs refuse, the first ones
	order := map[string]int32{"anthropic": 1, "gemini": 2, "openai": 3}
	s.Always(func(w http.ResponseWriter, r *http.Request, q llmtest.Question) {
		if order[q.API] <= away.Load() {
			llmtest.TooMany("0.05")(w, r, q)
			return
		}
		llmtest.Fine(w, r, q)
	})
	var cfgs []llm.Config
	for _, api := range []string{"anthropic", "gemini", "openai"} {
		cfgs = append(cfgs, llm.Config{Provider: api, URL: s.URL, Key: aKey, Timeout: 30 * time.Second})
	}
	cfgs[0].URL, cfgs[1].URL = s.URL[:len(s.URL)-3], s.URL[:len(s.URL)-3]
	p, err := llm.OpenAll(llm.Pace{Pause: 20 * time.Millisecond}, append(cfgs, llm.Config{Provider: "offline"})...)
	require.NoError(t, err)
	require.Equal(t, "anthropic,gemini,openai,offline", p.Name())
	for n, who := range []string{"anthropic", "gemini", "openai", "offline"} {
		away.Store(int32(n))
		require.Eventually(t, func() bool { // what rests from the round before may be tried first
			a, err := p.Answer(t.Context(), observing("e1"))
			return err == nil && a.Provider == who
		}, 30*time.Second, time.Millisecond)
	}
	require.Len(t, p.(*llm.Failover).Resting(), 3)
	away.Store(0)
	require.Eventually(t, func() bool {
		a, err := p.Answer(t.Context(), observing("e1"))
		return err == nil && a.Provider == "anthropic"
	}, 30*time.Second, time.Millisecond, "it comes back")
	for _, r := range p.(*llm.Failover).Resting() {
		require.NotContains(t, r.Why, aKey)
	}
}

func TestFailoverRestsAndComesBack(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		fault llm.Fault
		after time.Duration
		times int           // that it is asked before it rests
		least time.Duration // of the rest
	}{
		{llm.FaultBusy, 0, 1, 2500 * time.Millisecond},
		{llm.FaultBusy, time.Hour, 1, time.Hour},
		{llm.FaultDenied, 0, 1, 2500 * time.Millisecond},
		{llm.FaultExhausted, 0, 1, 15 * time.Minute},
		{llm.FaultBroken, 0, 3, 2500 * time.Millisecond},
	} {
		t.Run(string(tt.fault), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				one, two := &scripted{name: "one", fault: tt.fault, after: tt.after}, &scripted{name: "two"}
				var told []string
				f := llm.NewFailover(llm.Pace{Told: func(who string, until time.Time, _ error) {
					if until.IsZero() {
						who += " works"
					}
					told = append(told, who)
				}}, one, two)
				ask := func() {
					a, err := f.Answer(t.Context(), llm.Question{})
					require.NoError(t, err)
					require.Equal(t, "two", a.Provider)
				}
				began := time.Now()
				for range 10 {
					ask()
				}
				require.Equal(t, tt.times, one.asked)
				require.Equal(t, []string{"one"}, told)
				resting := f.Resting()
				require.Len(t, resting, 1)
				require.GreaterOrEqual(t, resting[0].Until.Sub(began), tt.least)

				<-time.After(time.Until(resting[0].Until) + time.Millisecond)
				ask()
				ask()
				require.Equal(t, tt.times+1, one.asked, "it is tried with one question, and rests again")
				require.Greater(t, f.Resting()[0].Until, resting[0].Until)
				one.fault = ""
				<-time.After(time.Until(f.Resting()[0].Until) + time.Millisecond)
				a, err := f.Answer(t.Context(), llm.Question{})
				require.NoError(t, err)
				require.Equal(t, "one", a.Provider)
				require.Empty(t, f.Resting())
				require.Equal(t, []string{"one", "one works"}, told)
			})
		})
	}
}

// What the error says of a question that nobody answered decides whether it
// costs the job an attempt.
func TestFailoverWithNobodyLeft(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		one, two llm.Fault
		want     llm.Fault
	}{
		{"both rejected it", llm.FaultRefused, llm.FaultRefused, llm.FaultRefused},
		{"one rejected it, the other may take it later", llm.FaultRefused, llm.FaultBusy, llm.FaultAnswer},
		{"the question may have broken one", llm.FaultBusy, llm.FaultBroken, llm.FaultBroken},
		{"a wrong key and a quota", llm.FaultDenied, llm.FaultExhausted, llm.FaultExhausted},
		{"wrong keys", llm.FaultDenied, llm.FaultDenied, llm.FaultDenied},
		{"one is only busy", llm.FaultExhausted, llm.FaultBusy, llm.FaultBusy},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				one, two := &scripted{name: "one", fault: tt.one}, &scripted{name: "two", fault: tt.two}
				f := llm.NewFailover(llm.Pace{}, one, two)
				a, err := f.Answer(t.Context(), llm.Question{})
				fault := faultOf(t, err)
				require.Equal(t, tt.want, fault.Fault, "%v", err)
				require.Equal(t, []llm.Use{{Provider: "one", Model: "m", TokensIn: 3}, {Provider: "two", Model: "m", TokensIn: 3}}, a.Uses(), "paid all the same")
				if tt.want == llm.FaultBusy {
					require.Positive(t, fault.After)
					require.LessOrEqual(t, fault.After, 5*time.Second, "the one that comes back first")
					asked := one.asked + two.asked
					_, err := f.Answer(t.Context(), llm.Question{})
					require.Equal(t, llm.FaultBusy, faultOf(t, err).Fault)
					require.Equal(t, asked, one.asked+two.asked, "both rest")
				}
			})
		})
	}
}

func TestFailoverEndsWithItsContext(t *testing.T) {
	t.Parallel()
	one := &scripted{name: "one"}
	f := llm.NewFailover(llm.Pace{}, one, &scripted{name: "two"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := f.Answer(ctx, llm.Question{})
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, f.Resting(), "it says nothing about the provider")
}

func TestFailoverIsSetUpRight(t *testing.T) {
	t.Parallel()
	key := func(name string) llm.Config { return llm.Config{Provider: name, Key: aKey} }
	for want, cfgs := range map[string][]llm.Config{
		"named twice":    {key("openai"), key("openai")},
		"to be the last": {key("offline"), key("openai")},
		"needs a key":    {key("openai"), {Provider: "anthropic"}},
		"unknown":        {key("openai"), {Provider: "nobody"}},
	} {
		_, err := llm.OpenAll(llm.Pace{}, cfgs...)
		require.ErrorContains(t, err, want)
	}
	p, err := llm.OpenAll(llm.Pace{})
	require.NoError(t, err)
	require.Equal(t, "offline", p.Name())
}

// Whatever happens to the providers and however much time passes: whoever
// answers, all before him rest, failed with this question or are being tried;
// nobody is asked while he rests; and when all work, the first one is back in
// the end.
func TestFailoverProperty(t *testing.T) {
	t.Parallel()
	faults := []llm.Fault{"", "", llm.FaultBusy, llm.FaultBroken, llm.FaultExhausted, llm.FaultDenied, llm.FaultRefused}
	rapid.Check(t, func(rt *rapid.T) {
		plan := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) [4]int {
			return [4]int{
				rapid.IntRange(0, len(faults)-1).Draw(rt, "one"), rapid.IntRange(0, len(faults)-1).Draw(rt, "two"),
				rapid.IntRange(0, len(faults)-1).Draw(rt, "three"), rapid.IntRange(0, 1200).Draw(rt, "seconds"),
			}
		}), 1, 30).Draw(rt, "plan")
		synctest.Test(t, func(t *testing.T) {
			ps := []*scripted{{name: "0"}, {name: "1"}, {name: "2"}}
			f := llm.NewFailover(llm.Pace{}, ps[0], ps[1], ps[2])
			for _, step := range plan {
				<-time.After(time.Duration(step[3]) * time.Second)
				before := map[string]time.Time{}
				for _, r := range f.Resting() {
					before[r.Provider] = r.Until
				}
				var asked [3]int
				for i, p := range ps {
					p.fault, asked[i] = faults[step[i]], p.asked
				}
				a, err := f.Answer(t.Context(), llm.Question{})
				last := len(ps) - 1
				for i, p := range ps {
					if err == nil && a.Provider == p.name {
						last = i
					}
				}
				for i, p := range ps {
					rests := time.Now().Before(before[p.name])
					require.Equal(t, i <= last && !rests, p.asked > asked[i], "%s, %v", p.name, err)
				}
			}
			for _, p := range ps {
				p.fault = ""
			}
			<-time.After(time.Hour)
			a, err := f.Answer(t.Context(), llm.Question{})
			require.NoError(t, err)
			require.Equal(t, "0", a.Provider)
		})
	})
}
