package main

import (
	"context"
	"fmt"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
)

type serverAPI struct{ boot.ServerFlags }

func (serverAPI) Help() string {
	return `Serves the HTTP API and nothing else; relays and workers are processes of their own. The same as obs server alone.

Examples:

  obs server api --database-url postgres://obs@db/obs --nats-url nats://broker:4222
  OBS_DATABASE_URL=… OBS_NATS_URL=… obs server --addr 0.0.0.0:8080`
}

type relayCommand struct {
	boot.RelayFlags `set:"addr=127.0.0.1:37978"`
}

func (relayCommand) Help() string {
	return `The same as the program obs-relay. One relay leads, the others stand by.

Examples:

  obs relay --database-url postgres://obs@db/obs --nats-url nats://broker:4222
  curl http://127.0.0.1:37978/api/health`
}

type workerCommand struct {
	boot.WorkerFlags `set:"addr=127.0.0.1:37979"`
}

func (workerCommand) Help() string {
	return `The same as the program obs-worker.

Examples:

  obs worker --database-url postgres://obs@db/obs --nats-url nats://broker:4222
  OBS_DATABASE_URL=… OBS_NATS_URL=… obs worker --slots event=8,summary=2`
}

type versionCommand struct{}

func (versionCommand) Help() string {
	return `Examples:

  obs version
  obs --version`
}

func (versionCommand) Run(std boot.Std) error {
	_, err := fmt.Fprintln(std.Stdout, "obs", boot.Build())
	return err
}

type migrateCommand struct {
	boot.DatabaseFlags
}

func (migrateCommand) Help() string {
	return `Every process does this when it starts; the command is for those who want it to happen before. It is safe to
repeat and to run twice at once.

Examples:

  obs migrate --database-url postgres://obs@db/obs`
}

func (c migrateCommand) Run(ctx context.Context, std boot.Std) error {
	op, err := openOperator(ctx, std, c.DatabaseFlags)
	if err != nil {
		return err
	}
	defer op.close()
	fmt.Fprintf(std.Stdout, "the database has schema %d\n", op.schema)
	return nil
}
