package api

import (
	"cmp"
	"context"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
)

const (
	formSchema  = "schema"
	formGrammar = "grammar"
)

type promptRequest struct {
	named
	form string
}

func (r *promptRequest) read(in *input) {
	r.named.read(in)
	r.form = cmp.Or(in.c.QueryParam("form"), formSchema)
	if r.form != formSchema && r.form != formGrammar {
		in.found([]any{"form"}, wrongOption(formSchema, formGrammar))
	}
}

// promptBody is one question in words; schema is null in the grammar's form.
type promptBody struct {
	Version string         `json:"version"`
	System  string         `json:"system"`
	User    string         `json:"user"`
	Schema  map[string]any `json:"schema"`
	LeftOut int            `json:"leftOut"`
}

type jobPromptsBody struct {
	JobID   events.ID    `json:"jobId"`
	Task    string       `json:"task"`
	Private int          `json:"privateEvents"`
	Told    int          `json:"toldEvents"`
	Prompts []promptBody `json:"prompts"`
}

func (s *server) getJobPrompt(ctx context.Context, c observe.Caller, r promptRequest) (jobPromptsBody, error) {
	p, err := s.cfg.Service.JobPrompts(ctx, c, events.ID(r.id), r.form == formSchema)
	body := jobPromptsBody{JobID: p.Job.ID, Task: string(p.Task), Private: p.Private, Told: p.Told, Prompts: []promptBody{}}
	for _, one := range p.Prompts {
		body.Prompts = append(body.Prompts, promptBody(one))
	}
	return body, err
}
