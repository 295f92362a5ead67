// Command obs runs all of obs on this machine (`obs dev`, `obs demo`), its
// parts one by one (`obs server`, `obs relay`, `obs worker`), and is the tool
// of whoever looks after a database of jobs.
package main

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
)

const about = `Agents' hook events in, observations that a team can search out.

Examples:

  obs dev                       everything on this machine; nothing to set up
  obs demo                      a real agent's session through it, live
  obs jobs list --status failed
  obs <command> --help          more, with examples for each command`

type commands struct {
	Dev    devCommand    `cmd:"" help:"Run everything on this machine: Postgres, NATS, API, relay and worker."`
	Demo   demoCommand   `cmd:"" help:"Send a real agent's session through all of it and show what happens."`
	Server serverCommand `cmd:"" help:"Serve the HTTP API; or run everything in the background."`
	Relay  relayCommand  `cmd:"" help:"Bring committed jobs to the stream."`
	Worker workerCommand `cmd:"" help:"Do jobs."`

	MCP mcpCommand `cmd:"" name:"mcp" help:"Serve the tools for agents over stdin and stdout (MCP)."`

	Migrate  migrateCommand  `cmd:"" help:"Bring the database to this program's schema."`
	Teams    teamsCommand    `cmd:"" help:"Make and list teams."`
	Projects projectsCommand `cmd:"" help:"Make and list projects."`
	Keys     keysCommand     `cmd:"" help:"Make, list, revoke and rotate API keys."`
	Jobs     jobsCommand     `cmd:"" help:"Look at jobs, try them again, cancel them."`
	Usage    usageCommand    `cmd:"" help:"Tell what teams used this month, and what it cost."`
	Budget   budgetCommand   `cmd:"" help:"Say what a team may use in a month."`
	Prices   pricesCommand   `cmd:"" help:"Print what models cost."`
	Prompt   promptCommand   `cmd:"" help:"See what a model is asked, and in which words."`
	Follow   followCommand   `cmd:"" help:"Print what happens to jobs, and what they find, as it happens."`
	Audit    auditCommand    `cmd:"" help:"Read who did what."`
	Check    checkCommand    `cmd:"" help:"Verify what must always hold, on a live database."`
	Prune    pruneCommand    `cmd:"" help:"Take away old finished jobs with their histories."`
	Reindex  reindexCommand  `cmd:"" help:"Render observations anew, and make their words and vectors."`
	Bench    benchCommand    `cmd:"" help:"Measure what this Postgres and this NATS can take, and obs on them."`

	Install   installCommand   `cmd:"" help:"Make Claude Code report to a server."`
	Uninstall uninstallCommand `cmd:"" help:"Take out of Claude Code what install put in."`
	Hook      hookCommand      `cmd:"" help:"What Claude Code calls."`

	Completion completionCommand `cmd:"" help:"Print a script that makes a shell complete commands."`

	Info    versionCommand   `cmd:"" name:"version" help:"Print the version."`
	Version boot.VersionFlag `help:"Print the version and end."`
}

func main() { boot.Main(run) }

func run(ctx context.Context, std boot.Std) (code int) {
	defer neverFails(std, &code)
	if len(std.Args) == 0 {
		std.Args = []string{"--help"}
	}
	var cli commands
	command, err := boot.Parse(ctx, std, "obs", about, boot.DefaultAddr(), &cli)
	if err == nil && command != nil {
		err = command.Run()
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == undefinedTable {
		err = errors.New("the database has no tables of obs yet: run obs migrate, or start any part of obs on it")
	}
	return boot.Exit(std, "obs", err)
}

// undefinedTable is Postgres' code for a table that is not there.
const undefinedTable = "42P01"
