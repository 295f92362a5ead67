// Jobs that do nothing on BullMQ.
import { Queue, Worker } from "bullmq";
import IORedis from "ioredis";
import { drive, flags, pad } from "./drive.mjs";

const connect = () => new IORedis({ port: Number(flags.port), maxRetriesPerRequest: null });
const queue = new Queue("bench", { connection: connect() });
const addJobs = (at, n) => queue.addBulk(Array.from({ length: n }, (_, i) => ({ name: "bench", data: { n: at + i, pad } })));

let done = 0;
let wanted = Infinity;
let all;
const finished = new Promise((resolve) => (all = resolve));
const work = async () => {
  const worker = new Worker("bench", async () => {}, { connection: connect(), concurrency: 100 });
  worker.on("completed", () => {
    if (++done >= wanted) all();
  });
  await worker.waitUntilReady();
};

if (flags.what === "drain") {
  const n = Number(flags.jobs);
  for (let at = 0; at < n; at += 1000) await addJobs(at, Math.min(1000, n - at));
  await drive(async () => {
    wanted = n;
    await work();
    await finished;
    return n;
  });
} else {
  await work();
  await drive(async () => {
    const end = Date.now() + Number(flags.ms);
    let asked = 0;
    const ask = async () => {
      while (Date.now() < end) {
        if (asked - done > 10000) {
          await new Promise((resolve) => setTimeout(resolve, 1));
          continue;
        }
        asked += 100;
        await addJobs(asked, 100);
      }
    };
    await Promise.all([ask(), ask()]);
    wanted = asked;
    if (done >= wanted) all();
    await finished;
    return asked;
  });
}
