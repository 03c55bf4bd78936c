import { z } from "zod";
import type { Log } from "../../agent/context.ts";
import type { Clock } from "../../system/clock.ts";
import type { Random } from "../../system/random.ts";
import type { Timer, Timers } from "../../system/timers.ts";
import { toFault } from "../../values/fault.ts";
import { formatLsn, parseLsn } from "../../values/lsn.ts";
import { parseTimeline } from "../../values/names.ts";
import type { Repository } from "../repository/repository.ts";
import type { BackupUse } from "./retention.ts";

/** How long a use is believed after it was last renewed: a restore that was killed holds nothing for longer. */
const lifeMs = 30 * 60_000;
const renewalMs = 5 * 60_000;
/** Clocks of hosts may differ by so much. */
const skewMs = 5 * 60_000;

const schema = z.object({
  backup: z.string(),
  timeline: z.number(),
  fromLsn: z.string(),
  what: z.string(),
  expiresAt: z.iso.datetime(),
});

export interface UseParts {
  readonly repository: Repository;
  readonly cluster: string;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
}

/** A use that is renewed until it is released. */
export interface HeldUse {
  /** Retention may delete it again. A repository that cannot be written is no error: the use runs out by itself. */
  release(): Promise<void>;
}

/**
 * Says that a backup and the WAL after it are being read, by whatever process: retention leaves them alone until it is released
 * or was not renewed for half an hour. Durable when it resolves. @throws Fault BACKUP_STORE_*
 */
export async function holdUse(parts: UseParts, use: BackupUse, what: string): Promise<HeldUse> {
  const { repository, clock, timers, log } = parts;
  const key = `${prefixOf(parts.cluster)}${parts.random.uuid()}.json`;
  const write = async (): Promise<void> => {
    const expiresAt = new Date(Date.parse(clock.wall()) + lifeMs).toISOString();
    const { backup, timeline, fromLsn } = use;
    const text = JSON.stringify({ backup, timeline, fromLsn: formatLsn(fromLsn), what, expiresAt });
    await repository.write(key, Buffer.from(`${text}\n`));
  };
  await write();
  const state: { timer: Timer | null; writing: Promise<void>; released: boolean } = {
    timer: null,
    writing: Promise.resolve(),
    released: false,
  };
  const again = (): void => {
    state.timer = timers.after(renewalMs, () => {
      state.writing = write()
        .catch((thrown: unknown) => log("warn", "backup.use.not.renewed", { ...toFault(thrown).report() }))
        .then(() => {
          if (!state.released) again();
        });
    });
  };
  again();
  return {
    release: async () => {
      state.released = true;
      state.timer?.cancel();
      await state.writing;
      await repository.store
        .delete(key)
        .catch((thrown: unknown) => log("warn", "backup.use.not.released", { ...toFault(thrown).report() }));
    },
  };
}

/**
 * What is being read now; uses that ran out long ago are removed. One that cannot be understood is told and left.
 * @throws Fault BACKUP_STORE_*
 */
export async function currentUses(
  parts: Pick<UseParts, "repository" | "cluster" | "clock" | "log">,
): Promise<readonly BackupUse[]> {
  const { repository, clock, log } = parts;
  const uses: BackupUse[] = [];
  const over: string[] = [];
  for await (const { key } of repository.store.list(prefixOf(parts.cluster))) {
    try {
      const bytes = await repository.read(key);
      if (bytes === null) continue;
      const value = schema.parse(JSON.parse(bytes.toString("utf8")));
      const [timeline, fromLsn] = [parseTimeline(value.timeline), parseLsn(value.fromLsn)];
      if (Date.parse(clock.wall()) > Date.parse(value.expiresAt) + skewMs) over.push(key);
      else if (timeline !== undefined && fromLsn !== undefined)
        uses.push({ backup: value.backup, timeline, fromLsn });
    } catch (thrown) {
      const fault = toFault(thrown);
      if (fault.code.startsWith("BACKUP_STORE")) throw thrown;
      log("warn", "backup.use.unreadable", { key, ...fault.report() });
    }
  }
  for (const key of over) await repository.store.delete(key);
  return uses;
}

function prefixOf(cluster: string): string {
  return `clusters/${cluster}/uses/`;
}
