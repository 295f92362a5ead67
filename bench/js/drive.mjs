// What both drivers do: say that all is ready, wait to be told to go, tell what came of it, and stay until stdin ends.
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";

const options = Object.fromEntries(["url", "port", "jobs", "payload", "what", "ms"].map((name) => [name, { type: "string" }]));
export const flags = parseArgs({ options }).values;
export const pad = "0123456789abcdef".repeat(Number(flags.payload) / 16 + 1).slice(0, Number(flags.payload));

export async function drive(run) {
  const lines = createInterface({ input: process.stdin });
  const ended = new Promise((resolve) => lines.once("close", resolve));
  console.log("ready");
  await new Promise((resolve) => lines.once("line", resolve));
  const began = process.hrtime.bigint();
  const n = await run();
  console.log(JSON.stringify({ n, seconds: Number(process.hrtime.bigint() - began) / 1e9 }));
  await ended;
  process.exit(0);
}
