// Serves a Postgres in memory with pgvector on a free port of loopback, which it
// prints, until it is killed.
import { createServer } from "node:net";
import { PGlite } from "@electric-sql/pglite";
import { pg_trgm } from "@electric-sql/pglite/contrib/pg_trgm";
import { vector } from "@electric-sql/pglite-pgvector";
import { PGLiteSocketServer } from "@electric-sql/pglite-socket";

const port = await new Promise((resolve) => {
  const probe = createServer().listen(0, "127.0.0.1", () => {
    const { port } = probe.address();
    probe.close(() => resolve(port));
  });
});
const db = await PGlite.create({ extensions: { vector, pg_trgm } });
await new PGLiteSocketServer({ db, port, host: "127.0.0.1" }).start();
console.log(port);
