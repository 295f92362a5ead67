package observe

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/sqlc"
)

// How a project's events are stored. Whatever it is, nobody but who reads the
// event itself is shown what privacy tags enclose, or a secret.
const (
	StorageRaw      = "raw"      // as they came
	StorageStripped = "stripped" // without what privacy tags enclose
	StorageRedacted = "redacted" // and without what looks like a secret
)

// Storages lists them.
func Storages() []string { return []string{StorageRaw, StorageStripped, StorageRedacted} }

// Texts are the words in which a model is asked, see [llm.Texts].
type Texts = llm.Texts

// DefaultMode is the mode of projects that have none of their own.
const DefaultMode = llm.DefaultMode

// Settings are what a project has of its own; the zero value is what it is
// without any.
type Settings struct {
	Storage string    // of [Storages]; "" is raw
	Mode    string    // of the server's; "" is [DefaultMode]
	Texts   llm.Texts // in place of those of the mode; an empty one is the mode's
}

// settingsDoc is what projects.metadata has of them.
type settingsDoc struct {
	Storage string     `json:"storage,omitempty"`
	Mode    string     `json:"mode,omitempty"`
	Texts   *llm.Texts `json:"prompts,omitempty"`
}

// SettingsChange is what to change of a project; nil leaves it as it is, and
// the zero value takes away what the project had of its own.
type SettingsChange struct {
	Policy  *Policy
	Storage *string
	Mode    *string
	Texts   *llm.Texts // all three
}

const (
	actSettings = "project.settings"
	maxText     = 16 << 10 // bytes of a text of a prompt
)

func (s *Service) checkSettings(ch SettingsChange) error {
	var wrong issues
	if ch.Policy != nil {
		ch.Policy.check(&wrong)
	}
	if ch.Storage != nil && *ch.Storage != "" && !slices.Contains(Storages(), *ch.Storage) {
		wrong.add(CodeValue, fmt.Sprintf("one of %q", Storages()), "storage")
	}
	if ch.Mode != nil && *ch.Mode != "" && s.modes()[*ch.Mode] == nil {
		wrong.add(CodeValue, "no mode that this server has", "mode")
	}
	if ch.Texts != nil {
		if ch.Texts.System != plain(ch.Texts.System) || ch.Texts.Observe != plain(ch.Texts.Observe) || ch.Texts.Summary != plain(ch.Texts.Summary) {
			wrong.add(CodeCustom, "holds a NUL character", "prompts")
		}
		for _, t := range []struct{ name, text string }{{"system", ch.Texts.System}, {"observe", ch.Texts.Observe}, {"summary", ch.Texts.Summary}} {
			if len(t.text) > maxText {
				wrong.add(CodeTooBig, fmt.Sprintf("at most %d bytes", maxText), "prompts", t.name)
			}
		}
	}
	return wrong.err()
}

// Modes names the modes that a project may have.
func (s *Service) Modes() []string {
	var names []string
	for name := range s.modes() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (s *Service) modes() map[string]*llm.Mode {
	if s.cfg.Modes != nil {
		return s.cfg.Modes
	}
	own, err := llm.Modes(nil)
	if err != nil {
		panic("observe: the embedded modes: " + err.Error()) // a test of llm reads them
	}
	return own
}

// SetSettings changes what a project has of its own. Other processes know of
// it within projectFor.
func (s *Service) SetSettings(ctx context.Context, c Caller, project string, ch SettingsChange) error {
	if err := s.checkSettings(ch); err != nil {
		return err
	}
	var names []string
	set := map[string]any{}
	change := func(name string, given bool, value any, empty bool) {
		if given {
			if names = append(names, name); !empty {
				set[name] = value
			}
		}
	}
	if p := ch.Policy; p != nil {
		change("policy", true, p.Name, p.Name == "")
		change("debounceMs", true, p.Debounce.Milliseconds(), p.Debounce == 0)
	}
	change("storage", ch.Storage != nil, ch.Storage, ch.Storage != nil && *ch.Storage == "")
	change("mode", ch.Mode != nil, ch.Mode, ch.Mode != nil && *ch.Mode == "")
	change("prompts", ch.Texts != nil, ch.Texts, ch.Texts != nil && *ch.Texts == llm.Texts{})
	if len(names) == 0 {
		return nil
	}
	return s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toAdmin, project)
		if err != nil {
			return err
		}
		n, err := q.SetProjectSettings(ctx, sqlc.SetProjectSettingsParams{ProjectID: scope.Project, TeamID: scope.Team, Names: names, Settings: marshal(set)})
		switch {
		case err != nil:
			return fmt.Errorf("set a project's settings: %w", err)
		case n == 0:
			return notFound("Project")
		}
		s.known.put(scope, knownProject{}, 0)
		if p := ch.Policy; p != nil {
			err := c.audit(ctx, q, entry{
				scope: scope, action: actPolicy, resource: resProject, id: scope.Project,
				details: map[string]any{"policy": p.Name, "debounce_ms": p.Debounce.Milliseconds()},
			})
			if err != nil || ch.Storage == nil && ch.Mode == nil && ch.Texts == nil {
				return err
			}
		}
		details := map[string]any{"prompts": ch.Texts != nil}
		if ch.Storage != nil {
			details["storage"] = cmp.Or(*ch.Storage, StorageRaw)
		}
		if ch.Mode != nil {
			details["mode"] = cmp.Or(*ch.Mode, DefaultMode)
		}
		return c.audit(ctx, q, entry{scope: scope, action: actSettings, resource: resProject, id: scope.Project, details: details})
	})
}

// ProjectSettings gives what a project has of its own.
func (s *Service) ProjectSettings(ctx context.Context, c Caller, project string) (Settings, error) {
	var found Settings
	err := s.inTx(ctx, func(_ pgx.Tx, q *sqlc.Queries) error {
		scope, err := s.allow(ctx, q, c, toRead, project)
		if err != nil {
			return err
		}
		row, err := q.ProjectName(ctx, sqlc.ProjectNameParams{ProjectID: scope.Project, TeamID: scope.Team})
		if errors.Is(err, pgx.ErrNoRows) {
			return notFound("Project")
		}
		if err != nil {
			return fmt.Errorf("read settings: %w", err)
		}
		found = settingsIn(row.Metadata)
		return nil
	})
	return found, err
}

// settingsIn reads a project's metadata; what is no setting, or one of
// somebody else, is none.
func settingsIn(metadata json.RawMessage) Settings {
	var doc settingsDoc
	if json.Unmarshal(metadata, &doc) != nil {
		return Settings{}
	}
	set := Settings{Mode: doc.Mode}
	if slices.Contains(Storages(), doc.Storage) {
		set.Storage = doc.Storage
	}
	if doc.Texts != nil {
		set.Texts = *doc.Texts
	}
	return set
}

// projectFor is how old may be what is known of a project: that saves each
// job and each request a question to Postgres.
const projectFor = 5 * time.Second

// knownProject is what jobs need of a project.
type knownProject struct {
	name    string // as a provider may see it
	storage string
	mode    *llm.Mode
}

// project gives what is known of a project. A job whose project is gone has
// nothing to do.
func (s *Service) project(ctx context.Context, scope events.Scope) (knownProject, error) {
	if p, ok := s.known.get(scope); ok {
		return p, nil
	}
	p, ok, err := s.projects.get(ctx, scope)
	if err != nil {
		return knownProject{}, fmt.Errorf("read project: %w", err)
	}
	if !ok {
		return knownProject{}, notFound("Project")
	}
	return p, nil
}

func (s *Service) loadProjects(ctx context.Context, scopes []events.Scope) (map[events.Scope]knownProject, error) {
	found := make(map[events.Scope]knownProject, len(scopes))
	for _, scope := range scopes {
		row, err := s.q.ProjectName(ctx, sqlc.ProjectNameParams{ProjectID: scope.Project, TeamID: scope.Team})
		if errors.Is(err, pgx.ErrNoRows) {
			continue
		}
		if err != nil {
			return nil, err
		}
		set := settingsIn(row.Metadata)
		p := knownProject{name: hide(row.Name), storage: set.Storage, mode: s.modes()[cmp.Or(set.Mode, DefaultMode)]}
		if p.mode == nil {
			s.log.LogAttrs(ctx, slog.LevelWarn, "project's mode is not known here", slog.String("project", scope.Project), slog.String("mode", set.Mode))
			p.mode = s.modes()[DefaultMode]
		}
		if own, err := p.mode.With(set.Texts); err == nil { // else they were written by somebody else
			p.mode = own
		}
		found[scope] = p
		s.known.put(scope, p, projectFor)
	}
	return found, nil
}

// forStorage makes of events what their projects want stored. Their ids and
// keys stay those of what was sent.
func (s *Service) forStorage(ctx context.Context, team string, ready []incoming) error {
	for i := range ready {
		e := &ready[i]
		keep, err := s.keeps(ctx, events.Scope{Team: team, Project: e.ProjectID})
		if err != nil {
			return err
		}
		if keep.raw() {
			continue
		}
		if e.Payload, err = keep.document(e.Payload); err == nil {
			_, e.Payload, err = textsOf(e.Payload, false) // in the words of jsonb, as before
		}
		if err != nil {
			return fmt.Errorf("strip a payload: %w", err)
		}
		if e.Metadata, err = keep.document(e.Metadata); err != nil {
			return fmt.Errorf("strip metadata: %w", err)
		}
		e.EventType = keep.text(e.EventType)
	}
	return nil
}

// keeping is how a project's events are stored.
type keeping string

// keeps says how a project wants its events stored. One that is not of the
// team wants nothing: it is refused elsewhere.
func (s *Service) keeps(ctx context.Context, scope events.Scope) (keeping, error) {
	p, err := s.project(ctx, scope)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return "", err
	}
	return keeping(p.storage), nil
}

func (k keeping) raw() bool { return k == "" || k == StorageRaw }

func (k keeping) document(raw json.RawMessage) (json.RawMessage, error) {
	if k.raw() {
		return raw, nil
	}
	return stripStored(raw, k == StorageRedacted)
}

func (k keeping) text(s string) string {
	switch {
	case k.raw():
		return s
	case k == StorageRedacted:
		return hide(s)
	}
	return strip(s)
}
