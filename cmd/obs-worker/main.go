// Command obs-worker takes jobs from the stream, does them, and records what
// came of it. Any number may run.
package main

import (
	"context"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
)

const about = `Takes jobs from the stream and writes observations. Run as many as you like.

Examples:

  obs-worker --database-url postgres://obs@db/obs --nats-url nats://broker:4222
  OBS_DATABASE_URL=… OBS_NATS_URL=… obs-worker --slots event=8,batch=4,summary=2
  curl http://127.0.0.1:37979/v1/info`

func main() { boot.Main(run) }

func run(ctx context.Context, std boot.Std) int {
	var cli struct {
		boot.WorkerFlags
		Version boot.VersionFlag `help:"Print the version and end."`
	}
	command, err := boot.Parse(ctx, std, "obs-worker", about, boot.DefaultWorkerAddr, &cli)
	if err == nil && command != nil {
		err = cli.Run(ctx, std)
	}
	return boot.Exit(std, "obs-worker", err)
}
