import type { RunTool } from "../host/tool.ts";
import { toolProblem } from "../host/tool.ts";

/** A tracked connection as its client made it. */
export interface TrackedFlow {
  readonly source: string;
  readonly sourcePort: number;
  readonly destination: string;
  readonly destinationPort: number;
}

/** The server a change of primary leaves behind. */
export interface FlowTarget {
  readonly address: string;
  readonly port: number;
}

const toolLimitMs = 10_000;
/** Room for some tens of thousands of connections. */
const outputBytes = 16 * 1024 * 1024;
/** Sockets cut by one call: a command line has a limit. */
const cutsPerCall = 100;

/** Connections out of what `conntrack` prints: the first tuple of each line is the client's own view. */
export function parseFlows(text: string): TrackedFlow[] {
  return text.split("\n").flatMap((line) => {
    const found = /\bsrc=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)/.exec(line);
    if (found === null) return [];
    const [, source = "", destination = "", sourcePort, destinationPort] = found;
    return [
      { source, destination, sourcePort: Number(sourcePort), destinationPort: Number(destinationPort) },
    ];
  });
}

/**
 * Forgets the tracked connections of a listener to a server that is not its primary any more, and cuts the sockets of clients on this
 * host. A client elsewhere is cut when it sends its next packet: that reaches the new primary, which answers RST.
 * @returns how many connections there were. @throws Error when conntrack fails
 */
export async function cutFlows(
  tool: RunTool,
  listenerPort: number,
  server: FlowTarget,
  isLocal: (address: string) => boolean,
): Promise<number> {
  const family = server.address.includes(":") ? "ipv6" : "ipv4";
  const result = await tool(
    "conntrack",
    [
      ...["-D", "-f", family, "-p", "tcp", "--orig-port-dst", String(listenerPort)],
      ...["--reply-src", server.address, "--reply-port-src", String(server.port)],
    ],
    { timeoutMs: toolLimitMs, outputBytes },
  );
  // 1 and nothing deleted is its way to say that there was none.
  if (result.code !== 0 && !/\b0 flow entries/.test(result.stderr))
    throw new Error(toolProblem("conntrack", result));
  const flows = parseFlows(result.stdout);
  const own = flows.filter(({ source }) => isLocal(source));
  for (let at = 0; at < own.length; at += cutsPerCall)
    await tool("ss", ["-K", "-n", "-t", ...socketFilter(own.slice(at, at + cutsPerCall))], {
      timeoutMs: toolLimitMs,
    });
  return flows.length;
}

/** The filter of `ss` that finds exactly these clients' sockets. */
export function socketFilter(flows: readonly TrackedFlow[]): string[] {
  const host = (address: string): string => (address.includes(":") ? `[${address}]` : address);
  return flows.flatMap((flow, index) => [
    ...(index === 0 ? [] : ["or"]),
    "(",
    ...["src", `${host(flow.source)}:${flow.sourcePort}`],
    ...["and", "dst", `${host(flow.destination)}:${flow.destinationPort}`],
    ")",
  ]);
}
