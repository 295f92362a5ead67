package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
)

// operator is somebody who has the database, and so may do anything.
type operator struct {
	pool    *pgxpool.Pool
	jobs    *db.Jobs
	service *observe.Service
	schema  int64
	name    string
}

// operatorFlags say where Postgres is. Where they do not, it is the one that
// the obs dev or obs server start of this machine has brought along.
type operatorFlags struct{ boot.DatabaseFlags }

// AfterApply is called by the parser.
func (f *operatorFlags) AfterApply(std boot.Std) error { //nolint:unparam // as the parser wants it
	if f.DatabaseURL != "" {
		return nil
	}
	named, _ := std.LookupEnv("OBS_DATA_DIR")
	dir, err := dirFlag{named}.abs(std)
	if err != nil {
		return nil //nolint:nilerr // then nothing runs there either
	}
	if s, err := boot.FindServer(dir); err == nil {
		f.DatabaseURL = s.Database
	}
	return nil
}

// openOperator connects, and brings the schema up to date as every process
// does that writes.
func openOperator(ctx context.Context, std boot.Std, flags ...boot.Settings) (*operator, error) {
	op, err := lookOperator(ctx, std, flags...)
	if err != nil {
		return nil, err
	}
	if err := db.Migrate(ctx, op.pool); err != nil {
		op.close()
		return nil, err
	}
	if op.schema, err = db.Version(ctx, op.pool); err != nil {
		op.close()
		return nil, err
	}
	return op, nil
}

// lookOperator connects to a database that has a schema.
func lookOperator(ctx context.Context, std boot.Std, flags ...boot.Settings) (*operator, error) {
	c, err := boot.Load(flags...)
	if err != nil {
		return nil, err
	}
	pool, err := boot.OpenDatabase(ctx, c, "obs-cli")
	if err != nil {
		return nil, err
	}
	name := "operator"
	if user, ok := std.LookupEnv("USER"); ok && user != "" {
		name += ":" + user
	}
	jobs := db.NewJobs(pool, db.JobsConfig{Process: "obs-cli", Build: boot.Build()})
	return &operator{
		pool: pool, jobs: jobs, name: name,
		service: observe.New(observe.Config{Pool: pool, Jobs: jobs, Modes: c.Modes, Process: "obs-cli", Build: boot.Build()}),
	}, nil
}

func (o *operator) close() { o.pool.Close() }

// projects are all of them, all of a team's, or the one that is named.
func (o *operator) projects(ctx context.Context, team, project string) ([]observe.Project, error) {
	all, err := o.service.ListProjects(ctx, team)
	if err != nil || project == "" {
		return all, err
	}
	all = slices.DeleteFunc(all, func(p observe.Project) bool { return p.ID != project })
	if len(all) == 0 {
		return nil, fmt.Errorf("there is no project %.80q here", project)
	}
	return all, nil
}

// as is the caller that may do anything in a scope.
func (o *operator) as(s events.Scope) observe.Caller {
	return observe.Caller{Actor: o.name, Team: s.Team, Project: s.Project, Scopes: []string{observe.ScopeAll}}
}

// printJSON is what --json prints: one value, indented.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// ago is a time as people say it.
func ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := time.Since(t)
	switch {
	case d < 0:
		return "now"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// epoch is a time as the API gives it: milliseconds, or nothing.
func epoch(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	return new(t.UnixMilli())
}
