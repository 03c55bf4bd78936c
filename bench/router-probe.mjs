// Loaded into the router that is measured (node --import): tells what it holds after its garbage has been collected, to whoever
// connects to the socket that the environment names.
import { readdirSync } from "node:fs";
import { createServer } from "node:net";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

const path = process.env.PGHERD_BENCH_PROBE;
if (path !== undefined) {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc");
  const server = createServer((socket) => {
    socket.on("error", () => undefined);
    // Twice, with a turn of the loop between them: what the first frees closes its handles.
    collect();
    setImmediate(() => {
      collect();
      const { heapUsed, external, rss } = process.memoryUsage();
      const handles = process.getActiveResourcesInfo().length;
      const files = readdirSync("/proc/self/fd").length;
      socket.end(JSON.stringify({ heapUsed, external, rss, handles, files }));
    });
  });
  server.listen(path);
  server.unref();
}
