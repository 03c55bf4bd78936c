import { createServer } from "node:net";
import { randomInt } from "node:crypto";

/** Test files that run at the same time draw from different ports: none takes what another has drawn and not used yet. */
const shares = 4;
const [first, end] = [12_000, 32_000];
const share = (end - first) / shares;
const from = first + (Number(process.env["VITEST_POOL_ID"] ?? "1") % shares) * share;

/**
 * A TCP port of 127.0.0.1 nobody listens on. Drawn below the kernel's ephemeral range, so that an outgoing connection
 * of another test cannot take it between the draw and its use.
 */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    const port = randomInt(from, from + share);
    if (await canListen(port)) return port;
  }
  throw new Error("no free port found in 100 draws");
}

/** `count` different free ports. */
export async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  while (ports.size < count) ports.add(await freePort());
  return [...ports];
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ port, host: "127.0.0.1", exclusive: true }, () => server.close(() => resolve(true)));
  });
}
