// Loaded into the router that is measured (node --import): tells what it holds after its garbage has been collected, to whoever
// connects to the socket that the environment names.
import { readdirSync } from "node:fs";
import { createServer } from "node:net";
import { getHeapCodeStatistics, setFlagsFromString } from "node:v8";
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
      // What is run for the first time is compiled, for hours: the program is told apart from what it holds.
      const { code_and_metadata_size: machine, bytecode_and_metadata_size: bytecode } =
        getHeapCodeStatistics();
      const data = heapUsed - machine - bytecode;
      const handles = process.getActiveResourcesInfo().length;
      const files = readdirSync("/proc/self/fd").length;
      socket.end(JSON.stringify({ data, heapUsed, external, rss, handles, files }));
    });
  });
  server.listen(path);
  server.unref();
}
