package llm

import "context"

const (
	offlineName  = "offline"
	offlineModel = "extractor-1"
)

// Offline is the extractor: it reads hook events by rule and writes notes.
type Offline struct{}

// NewOffline returns the extractor. It has no settings.
func NewOffline() *Offline { return &Offline{} }

// Name implements [Provider].
func (*Offline) Name() string { return offlineName }

// Answer implements [Provider].
func (*Offline) Answer(ctx context.Context, _ Question) (Answer, error) {
	if err := ctx.Err(); err != nil {
		return Answer{}, err
	}
	return Answer{Model: offlineModel, Skipped: true}, nil
}
