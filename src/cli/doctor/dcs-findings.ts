import type { NodeConfig } from "../../config/node-config.ts";
import { toFault } from "../../values/fault.ts";
import { elapsedMs } from "../../values/time.ts";
import type { CliIo } from "../io.ts";
import { openDcs } from "../../dcs/open.ts";
import { spanText } from "../render/quantity.ts";
import { failure, ok, warning, type Finding } from "./finding.ts";

const readTimeoutMs = 3000;
/** A read slower than this eats up too much of a short lease. */
const slowMs = 200;

/** Every member of the store, each on its own: a linearizable read of this cluster's keys. */
export async function dcsFindings(config: NodeConfig, io: CliIo): Promise<Finding[]> {
  const { endpoints } = config.dcs;
  const members = await Promise.all(endpoints.map((endpoint) => memberFinding(config, endpoint, io)));
  return [...members, ...quorumFindings(endpoints.length, members)];
}

async function memberFinding(config: NodeConfig, endpoint: string, io: CliIo): Promise<Finding> {
  try {
    const dcs = await openDcs(config, { clock: io.clock, timers: io.timers, endpoints: [endpoint] });
    try {
      // The first read connects and logs in; the second shows what a renewal costs.
      await dcs.read(readTimeoutMs);
      const began = io.clock.now();
      await dcs.read(readTimeoutMs);
      const ms = elapsedMs(began, io.clock.now());
      const text = `${endpoint} answers in ${spanText(ms)}`;
      return ms > slowMs
        ? warning("DCS", `${text}, which is slow`, "Look at its disk (fsync) and network.")
        : ok("DCS", text);
    } finally {
      await dcs.close();
    }
  } catch (thrown) {
    const { message, detail, hint } = toFault(thrown);
    const text = detail === null ? message : `${message}: ${detail}`;
    return failure("DCS", `${endpoint}: ${text}`, hint ?? "See that the member runs, and the way to it.");
  }
}

function quorumFindings(count: number, members: readonly Finding[]): Finding[] {
  const broken = members.filter((member) => member.level === "failure").length;
  const spare = Math.floor((count - 1) / 2);
  if (broken > spare)
    return [
      failure("DCS", `${broken} of ${count} members do not answer: no majority`, "Bring members back."),
    ];
  if (count === 1)
    return [warning("DCS", "one member is named: without it nothing can take over", "Name three or five.")];
  if (count % 2 === 0)
    return [
      warning(
        "DCS",
        `${count} members survive the loss of ${spare}, as ${count - 1} do`,
        "Use an odd number.",
      ),
    ];
  return [];
}
