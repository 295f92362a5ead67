// Jobs that do nothing on graphile-worker, with the settings that its documents give for throughput.
import { Logger, makeWorkerUtils, run } from "graphile-worker";
import { drive, flags, pad } from "./drive.mjs";

const n = Number(flags.jobs);
const logger = new Logger(() => () => {});
const utils = await makeWorkerUtils({ connectionString: flags.url, logger });
await utils.migrate();
for (let at = 0; at < n; at += 1000) {
  const some = Array.from({ length: Math.min(1000, n - at) }, (_, i) => ({ identifier: "bench", payload: { n: at + i, pad } }));
  await utils.addJobs(some);
}

await drive(async () => {
  let done = 0;
  let all;
  const finished = new Promise((resolve) => (all = resolve));
  const runner = await run({
    taskList: {
      bench: () => {
        if (++done === n) all();
      },
    },
    preset: {
      worker: {
        connectionString: flags.url,
        logger,
        maxPoolSize: 20,
        concurrentJobs: 24,
        pollInterval: 2000,
        localQueue: { size: 500 },
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
      },
    },
  });
  await finished;
  // A job is done when it is gone from its table.
  for (;;) {
    const left = await utils.withPgClient((c) => c.query("SELECT EXISTS (SELECT FROM graphile_worker._private_jobs) AS left"));
    if (!left.rows[0].left) break;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  setImmediate(() => runner.stop());
  return n;
});
