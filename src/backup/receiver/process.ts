import type { Log } from "../../agent/context.ts";
import { openStateFiles } from "../../agent/state-files.ts";
import type { ReceiverFacts } from "../member/receiver-member.ts";
import type { Clock } from "../../system/clock.ts";
import type { Random } from "../../system/random.ts";
import type { Timer, Timers } from "../../system/timers.ts";
import { Fault, toFault } from "../../values/fault.ts";
import { parseLsn } from "../../values/lsn.ts";
import { parseTimeline } from "../../values/names.ts";
import type { WallTime } from "../../values/time.ts";
import { Deliveries } from "./deliveries.ts";
import { LiveDirectory } from "./live-directory.ts";
import { NoteBook } from "./notes.ts";
import { parseReceiverOrder, type ReceiverOrder, type ReceiverReport } from "./protocol.ts";
import { Receiver } from "./receiver.ts";
import type { ReceivingEnd, WalSource } from "./source.ts";
import { becomeSoleWriter } from "./sole-writer.ts";
import { standingOf } from "./standing.ts";

/** The daemon's end of the channel. */
export interface ReceiverChannel {
  send(report: ReceiverReport): void;
  /** Called with each message, from the first one on. */
  onMessage(listener: (message: unknown) => void): void;
  /** Called when the daemon is gone. */
  onClose(listener: () => void): void;
}

/** What the daemon knows of the repository, for the receiver's record. */
export type DaemonFacts = Pick<ReceiverFacts, "lastBackupAt" | "lastDrillAt" | "gap">;

export interface ReceiverProcessParts {
  /** Where the received WAL is, and with it what was promised about it. */
  readonly liveDir: string;
  /** Opens whom to stream from. */
  readonly source: (receiving: ReceivingEnd, facts: () => DaemonFacts) => Promise<WalSource>;
  readonly channel: ReceiverChannel;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
}

/** How often it tells how it stands when nothing happens. */
const statusMs = 1_000;

/** Runs one receiver until its daemon says stop or is gone. @throws Fault */
export async function runReceiver(parts: ReceiverProcessParts, signal: AbortSignal): Promise<void> {
  const { channel, clock, timers, random, log } = parts;
  const ending = new AbortController();
  const end = (): void => ending.abort();
  signal.addEventListener("abort", end, { once: true });
  channel.onClose(end);
  const orders = new Orders();
  channel.onMessage((message) => {
    const order = parseReceiverOrder(message);
    if (order !== null) orders.push(order);
  });
  channel.send({ kind: "hello", pid: process.pid });
  const start = await orders.start(ending.signal);
  if (start === null) return;

  await becomeSoleWriter(parts.liveDir, timers);
  const live = await LiveDirectory.open(parts.liveDir);
  const notes = await NoteBook.open(await openStateFiles(parts.liveDir));
  const deliveries = new Deliveries(live, notes, (report) => channel.send(report));
  const receiver = new Receiver({ live, notes, deliveries, clock, timers, random, log });
  const standing = await standingOf(live, notes.notes, start.archived);
  receiver.stand(standing);
  await deliveries.begin(start.archived, standing?.position ?? null);
  let facts: DaemonFacts = { lastBackupAt: null, lastDrillAt: null, gap: null };
  const source = await parts.source(receiver, () => facts);
  orders.take((order) => {
    switch (order.kind) {
      case "stored":
        deliveries.stored(order.name, order.archivedUpTo, receiver.current);
        receiver.report();
        return;
      case "kept":
        deliveries
          .kept(order.id)
          .catch((thrown: unknown) => log("error", "receiver.notes", { ...toFault(thrown).report() }));
        return;
      case "facts":
        facts = factsOf(order);
        receiver.report();
        return;
      case "reset":
        receiver.reset();
        return;
      case "stop":
        end();
        return;
      case "start":
        return;
    }
  });
  let timer: Timer | null = null;
  const failed: Fault[] = [];
  const look = async (): Promise<void> => {
    if (failed.length > 0 || !(await receiver.isGone())) return;
    // The next one, started at once, has the segment sent again.
    const fault = new Fault("BACKUP_DAMAGED", "The file of the WAL being received was deleted.", {
      detail: `${receiver.current ?? "A segment"} in ${parts.liveDir}.`,
      hint: "It is received again. Nothing but this program may write there.",
    });
    failed.push(fault);
    end();
  };
  const tell = (): void => {
    channel.send({ kind: "status", status: receiver.status() });
    receiver.report();
    void look();
    timer = timers.after(statusMs, tell);
  };
  receiver.onChange = () => channel.send({ kind: "status", status: receiver.status() });
  tell();
  try {
    await receiver.run(source, ending.signal);
  } finally {
    (timer as Timer | null)?.cancel();
    await source.close();
    await deliveries.settled();
  }
  const [fault] = failed;
  if (fault !== undefined) throw fault;
}

function factsOf(order: Extract<ReceiverOrder, { kind: "facts" }>): DaemonFacts {
  const { lastBackupAt, lastDrillAt, gap } = order;
  const timeline = parseTimeline(gap?.timeline ?? 0);
  const startLsn = parseLsn(gap?.startLsn ?? "");
  const endLsn = parseLsn(gap?.endLsn ?? "");
  return {
    lastBackupAt: lastBackupAt as WallTime | null,
    lastDrillAt: lastDrillAt as WallTime | null,
    gap:
      timeline === undefined || startLsn === undefined || endLsn === undefined
        ? null
        : { timeline, startLsn, endLsn },
  };
}

type Start = Extract<ReceiverOrder, { kind: "start" }>;

/** Orders that came before anybody takes them wait here. */
class Orders {
  readonly #waiting: ReceiverOrder[] = [];
  #taker: ((order: ReceiverOrder) => void) | null = null;
  #started: ((start: Start) => void) | null = null;

  push(order: ReceiverOrder): void {
    if (order.kind === "start" && this.#started !== null) this.#started(order);
    else if (this.#taker !== null) this.#taker(order);
    else this.#waiting.push(order);
  }

  /** The first order; null = it ended before. */
  start(signal: AbortSignal): Promise<Start | null> {
    const first = this.#waiting.findIndex((order) => order.kind === "start");
    const [found] = first === -1 ? [] : this.#waiting.splice(first, 1);
    if (found?.kind === "start") return Promise.resolve(found);
    return new Promise((resolve) => {
      this.#started = (start) => {
        this.#started = null;
        resolve(start);
      };
      if (signal.aborted) resolve(null);
      else signal.addEventListener("abort", () => resolve(null), { once: true });
    });
  }

  take(taker: (order: ReceiverOrder) => void): void {
    this.#taker = taker;
    for (const order of this.#waiting.splice(0)) taker(order);
  }
}
