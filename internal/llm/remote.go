package llm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Remote asks a model over HTTP. What the APIs differ in is the dialect's.
type Remote struct {
	name    string
	cfg     Config
	url     string
	header  http.Header
	hc      *http.Client
	t       trouble
	dialect dialect

	// What this server does not take is found out once.
	noSchema      atomic.Bool // structured output
	noTemperature atomic.Bool
	newLimit      atomic.Bool // max_completion_tokens and not max_tokens
}

// dialect is how one API puts a question, and how it answers.
type dialect interface {
	// request is the document that asks.
	request(a asked) any
	// reply reads the document of a status 200. Its fault, unless it is empty,
	// says why there is no text.
	reply(body []byte) reply
	// refusal reads what came with any other status, or in place of a reply.
	refusal(status int, body []byte) refusal
}

// asked is what a dialect has to say in its words.
type asked struct {
	model       string
	maxTokens   int
	newLimit    bool
	temperature *float64
	task        Task
	schema      map[string]any // of the answer; nil: the text asks for the grammar
	system      string         // who is asked, and how to write
	talk        []message      // the question; after an answer that could not be read also that, and what was wrong
}

type message struct {
	Role    string `json:"role"` // user or assistant
	Content string `json:"content"`
}

// reply is an answer of a model, not yet read.
type reply struct {
	text    string
	model   string // empty: the one that was asked
	in, out int    // tokens
	cut     bool   // it has as many tokens as it may

	fault Fault
	why   string
}

// refusal is what a provider said instead of answering.
type refusal struct {
	code   string        // a word of the API's, empty when there is none
	status int           // that it means, where it said 200
	fault  Fault         // empty: as the status says
	after  time.Duration // that the body asks for
}

// remote checks what all dialects need and makes a provider. It asks nothing
// yet.
func remote(name string, cfg Config, d dialect, base, model string) (*Remote, error) {
	own := cfg.URL == ""
	if own {
		cfg.URL = base
	}
	cfg.Model = orElse(cfg.Model, model)
	switch {
	case own && cfg.Key == "":
		return nil, fmt.Errorf("provider %s: it needs a key, or the URL of a server that needs none", name)
	case cfg.Model == "":
		return nil, fmt.Errorf("provider %s: it needs the name of a model", name)
	case !plainModel.MatchString(cfg.Model):
		return nil, fmt.Errorf("provider %s: its model is to be such as %s", name, orElse(model, "llama3.2"))
	case strings.ContainsFunc(cfg.Key, func(r rune) bool { return r <= ' ' || r > '~' }):
		return nil, fmt.Errorf("provider %s: its key has characters that no key has", name)
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = answerTime
	}
	if cfg.MaxTokens <= 0 {
		cfg.MaxTokens = answerTokens
	}
	r := &Remote{name: name, cfg: cfg, header: http.Header{}, hc: client(), t: trouble{name}, dialect: d}
	return r, nil
}

var plainModel = regexp.MustCompile(`^[\w.:/@+-]{1,200}$`)

// at sets where questions go.
func (r *Remote) at(paths ...string) (*Remote, error) {
	u, err := endpoint(r.cfg.URL, paths...)
	if err != nil {
		return nil, fmt.Errorf("provider %s: %w", r.name, err)
	}
	r.url = u
	return r, nil
}

// Name implements [Provider].
func (r *Remote) Name() string { return r.name }

// Answer implements [Provider]. An answer that cannot be read is asked for
// once more, with what was wrong with it.
func (r *Remote) Answer(ctx context.Context, q Question) (Answer, error) {
	a := Answer{Provider: r.name}
	var talk []message
	for try := 0; ; try++ {
		res, err := r.ask(ctx, q, talk)
		in, out := a.TokensIn+max(res.in, 0), a.TokensOut+max(res.out, 0)
		model := tidy(orElse(res.model, r.cfg.Model), maxTitle)
		if err != nil {
			return Answer{Provider: r.name, Model: model, TokensIn: in, TokensOut: out}, err
		}
		a, err = read(q.Task, res.text)
		a.Provider, a.Model, a.TokensIn, a.TokensOut = r.name, model, in, out
		if err == nil {
			for i := range a.Observations {
				a.Observations[i].Type = q.mode().typeOf(a.Observations[i].Type)
			}
			return a, nil
		}
		if res.cut {
			err = fmt.Errorf("it was cut at %d tokens: %w", r.cfg.MaxTokens, err)
		}
		if try > 0 {
			return a, r.t.error(FaultAnswer, 0, 0, err)
		}
		talk = []message{
			{"assistant", cutBytes(orElse(strings.TrimSpace(res.text), "(nothing)"), maxPayload)},
			{"user", "That could not be read: " + err.Error() + ". Answer once more, in the form that was asked for and with nothing around it."},
		}
	}
}

// ask is one exchange, or some more until it is known what the server takes.
func (r *Remote) ask(ctx context.Context, q Question, talk []message) (reply, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, r.cfg.Timeout, errSlow)
	defer cancel()
	for {
		question := r.question(q, talk)
		learned := false
		body, err := exchange(ctx, r.t, r.hc, r.url, r.header, r.dialect.request(question), func(status int, body []byte) error {
			learned = r.learn(question, status, body)
			return r.refused(status, body)
		})
		if learned {
			continue
		}
		if err != nil {
			return reply{}, err
		}
		res := r.dialect.reply(body)
		switch {
		case res.fault == "":
			return res, nil
		case res.why == "": // 200, and means it otherwise
			return res, r.refused(http.StatusOK, body)
		}
		return res, r.t.error(res.fault, http.StatusOK, 0, errors.New(res.why))
	}
}

func (r *Remote) question(q Question, talk []message) asked {
	a := asked{model: r.cfg.Model, maxTokens: r.cfg.MaxTokens, newLimit: r.newLimit.Load(), task: q.Task}
	p := q.Prompt(!r.noSchema.Load())
	a.schema, a.system = p.Schema, p.System
	if !r.noTemperature.Load() {
		a.temperature = new(0.3)
	}
	a.talk = append([]message{{"user", p.User}}, talk...)
	return a
}

// learn reports whether the refusal of a question told something about the
// server that makes it worth asking again in another way.
func (r *Remote) learn(a asked, status int, body []byte) bool {
	if status != http.StatusBadRequest && status != http.StatusUnprocessableEntity && status != http.StatusNotImplemented {
		return false
	}
	said := strings.ToLower(string(body))
	says := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(said, w) })
	}
	switch {
	case !a.newLimit && says("max_completion_tokens"):
		r.newLimit.Store(true)
	case a.schema != nil && says("response_format", "json_schema", "structured output", "output_config", "output_format",
		"output format", "responsejsonschema", "response_json_schema", "response_schema", "responsemimetype", "response_mime_type", "json mode"):
		r.noSchema.Store(true)
	case a.temperature != nil && says("temperature"):
		r.noTemperature.Store(true)
	default:
		return false
	}
	return true
}

var plainCode = regexp.MustCompile(`^[a-z0-9_.-]{1,48}$|^[A-Z_]{1,48}$`)

// refused makes an error of what a provider said instead of answering, of which
// only the code goes into it: the message may quote the key or the prompt.
func (r *Remote) refused(status int, body []byte) error {
	said := r.dialect.refusal(status, body)
	if status == http.StatusOK && said.status >= 400 && said.status < 600 {
		status = said.status
	}
	if status == http.StatusOK {
		return r.t.error(FaultBroken, status, 0, errors.New("an error in place of an answer"))
	}
	if said.fault == "" {
		said.fault = classify(status, body)
	}
	why := "it says no"
	if plainCode.MatchString(said.code) && !(r.cfg.Key != "" && strings.Contains(said.code, r.cfg.Key)) {
		why = said.code
	}
	return r.t.error(said.fault, status, min(max(said.after, 0), maxAfter), errors.New(why))
}
