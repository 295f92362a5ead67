// Command obs-relay brings committed jobs from Postgres to the stream, and the
// events of jobs to those who follow. Any number may run: one leads, the
// others stand by.
package main

import (
	"context"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
)

const about = `Brings committed jobs from Postgres to the stream. One relay leads, the others stand by.

Examples:

  obs-relay --database-url postgres://obs@db/obs --nats-url nats://broker:4222
  OBS_DATABASE_URL=… OBS_NATS_URL=… obs-relay --addr 0.0.0.0:37978 --log-format json
  curl http://127.0.0.1:37978/api/health`

func main() { boot.Main(run) }

func run(ctx context.Context, std boot.Std) int {
	var cli struct {
		boot.RelayFlags
		Version boot.VersionFlag `help:"Print the version and end."`
	}
	command, err := boot.Parse(ctx, std, "obs-relay", about, boot.DefaultRelayAddr, &cli)
	if err == nil && command != nil {
		err = cli.Run(ctx, std)
	}
	return boot.Exit(std, "obs-relay", err)
}
