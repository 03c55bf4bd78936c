import { chmod, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { writeDurably } from "../../postgres/durable-file.ts";
import { Fault } from "../../values/fault.ts";

/**
 * The spool of one data directory: what the commands PostgreSQL runs for each segment and the process that serves them
 * (`SpoolFiller`, `SpoolPusher`) say to each other. The commands are POSIX shell: a hit costs one `test` and one `mv`.
 *
 *   in/NAME    a fetched file, whole; `mv` takes it away
 *   want/NAME  a file PostgreSQL waits for; the filler removes it when it has looked
 *   no/NAME    the answer to a want that is not the file: the exit code
 *   out/NAME   the archive has this file of pg_wal, durably; `mv` takes the mark away: it counts once
 *   ask/NAME   archive_command waits for this one
 *   pid        the process that serves the spool
 */
export interface SpoolPaths {
  readonly dir: string;
  readonly in: string;
  readonly want: string;
  readonly no: string;
  readonly out: string;
  readonly ask: string;
  readonly pid: string;
  /** The slow paths of the commands. */
  readonly fetchScript: string;
  readonly archiveScript: string;
}

/**
 * standby: what cannot be reached is told as "not there", and PostgreSQL streams or asks again.
 * restore: it ends recovery (exit code above 125), which would otherwise take it for the end of the WAL and go read-write.
 */
export type FetchMode = "standby" | "restore";

/** The exit code for "cannot be told": above 125 PostgreSQL stops. */
export const awayCode = { standby: 1, restore: 250 } as const satisfies Record<FetchMode, number>;

/** How long a restore waits for the process that serves it, and a command for an answer, in twentieths of a second. */
const fetchRounds = { standby: 200, restore: 6_000 } as const;
const goneRounds = { standby: 1, restore: 600 } as const;
const archiveRounds = 200;

export function spoolPaths(dir: string): SpoolPaths {
  const below = (name: string): string => join(dir, name);
  return {
    dir,
    in: below("in"),
    want: below("want"),
    no: below("no"),
    out: below("out"),
    ask: below("ask"),
    pid: below("pid"),
    fetchScript: below("fetch"),
    archiveScript: below("archive"),
  };
}

/** Makes the folders and scripts of a spool. @throws Fault CONFIG_INVALID when its path cannot stand in a command */
export async function prepareSpool(dir: string, mode: FetchMode): Promise<SpoolPaths> {
  if (!/^\/[A-Za-z0-9/._+-]+$/.test(dir))
    throw new Fault("CONFIG_INVALID", `The spool ${dir} cannot stand in restore_command.`, {
      hint: "Its path is absolute, of letters, digits, /, ., _, + and -.",
    });
  const paths = spoolPaths(dir);
  for (const each of [paths.in, paths.want, paths.no, paths.out, paths.ask])
    await mkdir(each, { recursive: true, mode: 0o700 });
  await writeDurably(paths.fetchScript, fetchScript(paths, mode), 0o700);
  await writeDurably(paths.archiveScript, archiveScript(paths), 0o700);
  for (const each of [paths.fetchScript, paths.archiveScript]) await chmod(each, 0o700);
  return paths;
}

/** For PostgreSQL's restore_command. */
export function restoreCommand(dir: string): string {
  const paths = spoolPaths(dir);
  // What was there may be gone a moment later, when another way is followed: then it is asked for.
  return `test -f ${paths.in}/%f && mv ${paths.in}/%f "%p" 2>/dev/null || exec /bin/sh ${paths.fetchScript} %f "%p"`;
}

/** For PostgreSQL's archive_command. */
export function archiveCommand(dir: string): string {
  const paths = spoolPaths(dir);
  return `if test -f ${paths.out}/%f; then exec mv ${paths.out}/%f ${paths.out}/.taken; else exec /bin/sh ${paths.archiveScript} %f; fi`;
}

/** Asks, and waits for the file or an answer. Answers of an earlier call are put away first. */
function fetchScript(paths: SpoolPaths, mode: FetchMode): string {
  return `# Waits for a file of the WAL archive: fetch NAME TARGET. Written by pgherd.
away=${awayCode[mode]}
if test -f ${paths.no}/"$1"; then mv ${paths.no}/"$1" ${paths.no}/.taken; fi
: > ${paths.want}/"$1" || exit $away
rounds=0
gone=0
while test $rounds -lt ${fetchRounds[mode]}; do
  if test -f ${paths.in}/"$1"; then
    if mv ${paths.in}/"$1" "$2"; then exit 0; fi
    if test -f ${paths.in}/"$1"; then exit $away; fi
    : > ${paths.want}/"$1" || exit $away
  fi
  if test -f ${paths.no}/"$1"; then
    code=$away
    read -r code < ${paths.no}/"$1"
    mv ${paths.no}/"$1" ${paths.no}/.taken
    exit "$code"
  fi
  pid=
  if test -f ${paths.pid}; then read -r pid < ${paths.pid}; fi
  if test -n "$pid" && kill -0 "$pid" 2>/dev/null; then gone=0; else gone=$((gone + 1)); fi
  if test $gone -ge ${goneRounds[mode]}; then exit $away; fi
  sleep 0.05
  rounds=$((rounds + 1))
done
exit $away
`;
}

/** Waits a little for the mark; PostgreSQL asks again later, and keeps the segment until then. */
function archiveScript(paths: SpoolPaths): string {
  return `# Waits until a file of pg_wal is archived: archive NAME. Written by pgherd.
: > ${paths.ask}/"$1" || exit 1
rounds=0
while test $rounds -lt ${archiveRounds}; do
  if test -f ${paths.out}/"$1"; then exec mv ${paths.out}/"$1" ${paths.out}/.taken; fi
  pid=
  if test -f ${paths.pid}; then read -r pid < ${paths.pid}; fi
  if test -z "$pid" || ! kill -0 "$pid" 2>/dev/null; then exit 1; fi
  if test ! -f ${paths.ask}/"$1"; then exit 1; fi
  sleep 0.05
  rounds=$((rounds + 1))
done
exit 1
`;
}
