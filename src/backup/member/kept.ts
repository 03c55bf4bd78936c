import { openStateFiles, type StateFiles } from "../../agent/state-files.ts";
import type { Random } from "../../system/random.ts";
import { Fault } from "../../values/fault.ts";
import { parseToken, type FencingToken } from "../../values/names.ts";

/** What a receiver has promised and which WAL it has, durable beside that WAL: lost together with it, never alone. */
export interface KeptMembership {
  readonly incarnation: string;
  /** The highest token promised or followed; null = none. */
  readonly promised: FencingToken | null;
  /** Durable when this resolves; a lower one changes nothing. */
  promise(token: FencingToken): Promise<void>;
  /** The WAL does not continue what was there. */
  renew(): Promise<void>;
}

const file = "member.json";

/** Reads what is kept in the directory, or makes it. @throws Fault BACKUP_STORE_FAILED when it is there and makes no sense */
export async function openKept(directory: string, random: Random): Promise<KeptMembership> {
  return keptIn(await openStateFiles(directory), random);
}

/** The same over files that are open. */
export async function keptIn(files: StateFiles, random: Random): Promise<KeptMembership> {
  let kept = parse(await files.read(file));
  let queue: Promise<unknown> = Promise.resolve();
  const write = (change: () => Kept | null): Promise<void> => {
    const run = queue.then(async () => {
      const next = change();
      if (next === null) return;
      await files.write(file, JSON.stringify(next));
      kept = next;
    });
    queue = run.catch(() => undefined);
    return run;
  };
  if (kept === null) await write(() => ({ incarnation: random.uuid(), promised: null }));
  const now = (): Kept => kept ?? { incarnation: "", promised: null };
  return {
    get incarnation() {
      return now().incarnation;
    },
    get promised() {
      return now().promised;
    },
    promise: (token) => write(() => ((now().promised ?? -1) >= token ? null : { ...now(), promised: token })),
    renew: () => write(() => ({ ...now(), incarnation: random.uuid() })),
  };
}

interface Kept {
  readonly incarnation: string;
  readonly promised: FencingToken | null;
}

/** A damaged file is not taken for none: a promise would be forgotten. */
function parse(text: string | null): Kept | null {
  if (text === null) return null;
  try {
    const { incarnation, promised } = JSON.parse(text) as Readonly<Record<string, unknown>>;
    const token = promised === null ? null : parseToken(Number(promised));
    if (typeof incarnation === "string" && incarnation !== "" && token !== undefined)
      return { incarnation, promised: token };
  } catch {
    // Told below.
  }
  throw new Fault("BACKUP_STORE_FAILED", `The file ${file} beside the received WAL is damaged`, {
    hint: "Move the directory with the received WAL aside: the receiver then begins as a new member.",
  });
}
