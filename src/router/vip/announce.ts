import { z } from "zod";
import type { Timer } from "../../system/timers.ts";
import type { AddressPorts } from "./address.ts";

/** Switches and hosts drop bursts, and one packet may be lost: the neighbours are told again and again. */
const seriesMs = [0, 100, 300, 1000, 5000] as const;
const toolLimitMs = 1500;
/** Neighbours that are told one by one (IPv6). */
const mostNeighbours = 16;

/** Gratuitous ARP, as request and as reply: some hosts take only one of them. @returns stops the series */
export function announceIpv4(address: string, device: string, ports: AddressPorts): () => void {
  return series(ports, async () => {
    await Promise.all(
      ["-U", "-A"].map((form) =>
        ports.tool("arping", [form, "-q", "-c", "1", "-w", "1", "-I", device, address], {
          timeoutMs: toolLimitMs,
        }),
      ),
    );
  });
}

/**
 * The kernel advertised the address to all nodes when it was placed. These are solicitations with the address as their source: whoever
 * gets one corrects its entry. They go to the routers of the link and to the neighbours this host knows. @returns stops the series
 */
export function announceIpv6(address: string, device: string, ports: AddressPorts): () => void {
  return series(ports, async () => {
    const neighbours = await knownNeighbours(device, ports);
    await Promise.all(
      neighbours
        .filter((neighbour) => neighbour !== address)
        .map((neighbour) =>
          ports.tool("ndisc6", ["-q", "-1", "-n", "-r", "1", "-w", "200", "-s", address, neighbour, device], {
            timeoutMs: toolLimitMs,
          }),
        ),
    );
  });
}

const neighboursSchema = z.array(
  z.object({ dst: z.string().optional(), gateway: z.string().optional(), lladdr: z.string().optional() }),
);

async function knownNeighbours(device: string, { tool }: AddressPorts): Promise<string[]> {
  const [routes, entries] = await Promise.all([
    tool("ip", ["-6", "-j", "route", "show", "default", "dev", device], { timeoutMs: toolLimitMs }),
    tool("ip", ["-6", "-j", "neighbour", "show", "dev", device], { timeoutMs: toolLimitMs }),
  ]);
  const gateways = parse(routes.stdout).map(({ gateway }) => gateway);
  const others = parse(entries.stdout)
    .filter(({ lladdr }) => lladdr !== undefined)
    .map(({ dst }) => dst);
  const all = [...gateways, ...others].filter((each) => each !== undefined);
  return [...new Set(all)].slice(0, mostNeighbours);
}

function parse(text: string): z.infer<typeof neighboursSchema> {
  try {
    return neighboursSchema.parse(JSON.parse(text.trim() === "" ? "[]" : text));
  } catch {
    return [];
  }
}

function series(ports: AddressPorts, tell: () => Promise<void>): () => void {
  let failed = false;
  const timers: Timer[] = seriesMs.map((ms) =>
    ports.timers.after(ms, () => {
      tell().catch((thrown: unknown) => {
        if (failed) return;
        failed = true;
        ports.log("vip.announce_failed", {
          message: thrown instanceof Error ? thrown.message : String(thrown),
        });
      });
    }),
  );
  return () => {
    for (const timer of timers) timer.cancel();
  };
}
