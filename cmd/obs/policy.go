package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
)

type projectSet struct {
	ID       string  `arg:"" help:"The project's id."`
	Policy   string  `placeholder:"NAME" help:"per-event, debounce, end-of-session, or server: as the server's --policy says."`
	Debounce string  `placeholder:"TIME" help:"How long events wait for others: of debounce, and after a session's end. 5s by default, up to 1h."`
	Storage  *string `placeholder:"NAME" help:"How its events are stored: raw, as they come; stripped, without what privacy tags enclose; redacted, without secrets as well."`
	Mode     *string `placeholder:"NAME" help:"What its observations are about: code, or a mode in the folder of --prompts."`
	Words    *string `placeholder:"DIR" help:"Words of its own for a model: a folder with system.md, observe.md or summary.md, any of them. Empty: those of the mode again."`
	JSON     bool    `help:"Print JSON."`
	operatorFlags
	boot.PromptFlags
}

func (projectSet) Help() string {
	return `Changes what is named, and leaves the rest. It counts for what comes from then on; servers and workers know of it
within five seconds.

The policy says when observations are asked for. per-event: a job for each event, at once. debounce: a job for the events
of a session that come within a time. end-of-session: a job for all events of a session, when it ends, or a day after its
first event when nobody says that it has ended.

Whatever the storage, no provider and no observation sees what privacy tags enclose, or a secret. An event that is stored
without them is still known by what was sent, so that sending it again makes no second one.

Examples:

  obs projects set 0197… --policy end-of-session
  obs projects set 0197… --policy debounce --debounce 10s
  obs projects set 0197… --policy server
  obs projects set 0197… --storage redacted
  obs projects set 0197… --mode code --words ./our-prompts`
}

// serverPolicy stands for none of the project's own.
const serverPolicy = "server"

// change reads what is to be changed.
func (c projectSet) change() (observe.SettingsChange, error) {
	var wrong []error
	ch := observe.SettingsChange{Storage: c.Storage, Mode: c.Mode}
	if c.Policy == "" && c.Storage == nil && c.Mode == nil && c.Words == nil {
		wrong = append(wrong, boot.Misused("nothing to set: want --policy, --storage, --mode or --words"))
	}
	names := append(observe.Policies(), serverPolicy)
	if c.Policy != "" {
		if !slices.Contains(names, c.Policy) {
			wrong = append(wrong, boot.Misused("--policy: got %.80q, want one of %s", c.Policy, strings.Join(names, ", ")))
		}
		ch.Policy = &observe.Policy{Name: c.Policy}
		if c.Policy == serverPolicy {
			ch.Policy.Name = ""
		}
	}
	if c.Debounce != "" {
		d, err := time.ParseDuration(c.Debounce)
		if err != nil || d < time.Millisecond || d > time.Hour {
			wrong = append(wrong, boot.Misused("--debounce: got %.80q, want a time from 1ms to 1h", c.Debounce))
		}
		if c.Policy == "" || c.Policy == observe.PolicyPerEvent || c.Policy == serverPolicy {
			wrong = append(wrong, boot.Misused("--debounce goes with debounce and end-of-session"))
		} else {
			ch.Policy.Debounce = d
		}
	}
	if c.Storage != nil && !slices.Contains(observe.Storages(), *c.Storage) {
		wrong = append(wrong, boot.Misused("--storage: got %.80q, want one of %s", *c.Storage, strings.Join(observe.Storages(), ", ")))
	}
	if c.Words != nil {
		texts, err := wordsIn(*c.Words)
		if err != nil {
			wrong = append(wrong, err)
		}
		ch.Texts = &texts
	}
	return ch, boot.Join(wrong...)
}

// wordsIn reads a folder of texts.
func wordsIn(dir string) (observe.Texts, error) {
	var texts observe.Texts
	if dir == "" {
		return texts, nil
	}
	for name, text := range map[string]*string{"system.md": &texts.System, "observe.md": &texts.Observe, "summary.md": &texts.Summary} {
		raw, err := os.ReadFile(dir + "/" + name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return texts, boot.Misused("--words: %v", err)
		}
		*text = string(raw)
	}
	if texts == (observe.Texts{}) {
		return texts, boot.Misused("--words: %.200q has none of system.md, observe.md and summary.md", dir)
	}
	if err := texts.Check(); err != nil {
		return texts, boot.Misused("--words: %v", err)
	}
	return texts, nil
}

func (c projectSet) Run(ctx context.Context, std boot.Std) error {
	ch, wrong := c.change()
	config, err := boot.Load(c.DatabaseFlags, c.PromptFlags)
	if err == nil && c.Mode != nil && config.Modes[*c.Mode] == nil {
		err = boot.Misused("--mode: there is no mode %.80q; --prompts (OBS_PROMPTS) names the folder with those that obs does not bring along", *c.Mode)
	}
	if err := boot.Join(wrong, err); err != nil {
		return err
	}
	op, err := openOperator(ctx, std, c.DatabaseFlags, c.PromptFlags)
	if err != nil {
		return err
	}
	defer op.close()
	projects, err := op.service.ListProjects(ctx, "")
	if err != nil {
		return err
	}
	for _, one := range projects {
		if one.ID != c.ID {
			continue
		}
		if err := op.service.SetSettings(ctx, op.as(events.Scope{Team: one.TeamID}), one.ID, ch); err != nil {
			return told(err)
		}
		return c.tell(std, one.Name, ch)
	}
	return fmt.Errorf("there is no project %.80q", c.ID)
}

// tell says what was set.
func (c projectSet) tell(std boot.Std, name string, ch observe.SettingsChange) error {
	set := map[string]any{"id": c.ID}
	var parts []string
	if ch.Policy != nil {
		set["policy"], set["debounceMs"] = c.Policy, ch.Policy.Debounce.Milliseconds()
		parts = append(parts, c.Policy)
	}
	if ch.Storage != nil {
		set["storage"] = *ch.Storage
		parts = append(parts, "storage "+*ch.Storage)
	}
	if ch.Mode != nil {
		set["mode"] = *ch.Mode
		parts = append(parts, "mode "+*ch.Mode)
	}
	if ch.Texts != nil {
		set["prompts"] = ch.Texts
		parts = append(parts, "words of "+cmp.Or(*c.Words, "the mode"))
	}
	if c.JSON {
		return printJSON(std.Stdout, set)
	}
	fmt.Fprintf(std.Stdout, "project %s: %s\n", name, strings.Join(parts, ", "))
	return nil
}
