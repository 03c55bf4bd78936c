import { readFileSync } from "node:fs";
import type { Readable, Writable } from "node:stream";
import { openDcs } from "../../dcs/open.ts";
import type { Clock } from "../../system/clock.ts";
import type { Timers } from "../../system/timers.ts";
import { hostTools } from "../host/tool.ts";
import { hostAddress } from "./host-address.ts";
import { VipGuard } from "./guard.ts";
import { lineReader, parseOpening, parseOrder, type GuardAnswer } from "./guard-protocol.ts";

/** What the guard process has of its surroundings. */
export interface GuardProcessPorts {
  readonly input: Readable;
  readonly output: Writable;
  /** Lines of the log, as JSON. */
  readonly errors: Writable;
  /** The router's process. */
  readonly router: number;
  readonly clock: Clock;
  readonly timers: Timers;
}

/** Whether a process is ready to run: neither stopped, nor asleep, nor waiting for a disk. */
function isReadyToRun(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    return stat.slice(stat.lastIndexOf(")") + 2).startsWith("R");
  } catch {
    return false;
  }
}

interface Opened {
  readonly guard: VipGuard;
  readonly close: () => Promise<void>;
}

/** Serves one router until its end of the pipe closes; resolves when there is nothing left to give up. */
export async function runVipGuard({
  input,
  output,
  errors,
  router,
  clock,
  timers,
}: GuardProcessPorts): Promise<void> {
  const log = (event: string, fields: Readonly<Record<string, unknown>>): void => {
    errors.write(`${JSON.stringify({ time: clock.wall(), level: "warn", event, ...fields })}\n`);
  };
  // A router that died reads nothing any more.
  for (const stream of [output, errors]) stream.on("error", () => undefined);
  const answer = (each: GuardAnswer): void => void output.write(`${JSON.stringify(each)}\n`);
  const opening: { promise: Promise<Opened | null> } = { promise: Promise.resolve(null) };
  let isOpen = false;

  const open = async (line: string): Promise<Opened> => {
    const order = parseOpening(line);
    if (order === null) throw new Error("The guard of virtual addresses is started by a router.");
    const dcs = await openDcs(order, { clock, timers });
    const ports = { tool: hostTools(timers), clock, timers, log };
    const guard = new VipGuard({
      addresses: new Map(order.vips.map((vip) => [vip.name, hostAddress(vip, ports)])),
      routerId: order.routerId,
      lockMs: Math.max(...order.vips.map(({ lockMs }) => lockMs)),
      dcs,
      isBusy: () => isReadyToRun(router),
      clock,
      timers,
      answer,
      log,
    });
    guard.open();
    return { guard, close: () => dcs.close() };
  };
  const inOrder = await new Promise<boolean>((resolve) => {
    const read = lineReader((line) => {
      if (!isOpen) {
        isOpen = true;
        opening.promise = open(line);
        return;
      }
      const order = parseOrder(line);
      if (order?.kind === "end") resolve(true);
      else if (order !== null) void opening.promise.then((opened) => opened?.guard.hear(order));
    });
    input.on("data", read);
    input.once("close", () => resolve(false));
    input.once("error", () => resolve(false));
  });
  const opened = await opening.promise;
  if (opened === null) throw new Error("The guard of virtual addresses is started by a router.");
  const { guard, close } = opened;
  if (inOrder) guard.close();
  else await guard.orphaned();
  await close();
}
