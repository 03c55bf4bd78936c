import type { Log } from "../../agent/context.ts";
import { walDirectory } from "../../postgres/wal.ts";
import type { Clock } from "../../system/clock.ts";
import type { Timers } from "../../system/timers.ts";
import type { FencingToken, Timeline } from "../../values/names.ts";
import { archiveCommand, prepareSpool, restoreCommand, type FetchMode } from "./commands.ts";
import { SpoolFiller } from "./filler.ts";
import { SpoolPusher } from "./pusher.ts";
import type { WalPort } from "./wal-port.ts";

export interface SpoolOptions {
  readonly port: WalPort;
  /** Of the spool; best on the file system of pg_wal, where taking a file away is a rename. */
  readonly dir: string;
  readonly dataDir: string;
  readonly source: string;
  readonly token: () => FencingToken | null;
  /** Whether archive_command is served too. */
  readonly push: boolean;
  readonly budgetBytes: number | null;
  readonly aheadBytes: number;
  readonly mode: FetchMode;
  readonly towards: Timeline | null;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  readonly signal: AbortSignal;
  /** Says a line to the operator. */
  readonly tell: (line: string) => void;
}

/** How long a restore waits for an archive that is away before it gives up. */
const patienceMs = 5 * 60_000;

/** Serves the spool of one PostgreSQL until it is told to end. @throws Fault CONFIG_INVALID */
export async function runSpool(options: SpoolOptions): Promise<void> {
  const { port, mode, clock, timers, log } = options;
  const paths = await prepareSpool(options.dir, mode);
  const filler = new SpoolFiller({
    paths,
    port,
    mode,
    towards: options.towards,
    partial: true,
    aheadBytes: options.aheadBytes,
    patienceMs,
    clock,
    timers,
    log,
  });
  const pusher = new SpoolPusher({
    paths,
    walDir: walDirectory(options.dataDir),
    port,
    token: options.token,
    source: options.source,
    budgetBytes: options.budgetBytes,
    clock,
    timers,
    log,
  });
  await filler.start();
  options.tell(`restore_command = '${restoreCommand(options.dir)}'`);
  if (options.push) {
    await pusher.start();
    options.tell(`archive_command = '${archiveCommand(options.dir)}'`);
  }
  await new Promise<void>((resolve) => {
    if (options.signal.aborted) resolve();
    options.signal.addEventListener("abort", () => resolve(), { once: true });
  });
  if (options.push) await pusher.stop();
  await filler.stop();
}
