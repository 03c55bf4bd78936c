import { resolve } from "node:path";
import type { RestoreStep, RestoreWish, WishedState, WishedTarget } from "../agent/restore-port.ts";
import { Fault } from "../values/fault.ts";
import { parseLsn } from "../values/lsn.ts";
import type { ChangeFlags, CommandContext } from "./context.ts";
import { bytesText } from "./render/quantity.ts";
import { parseMoment } from "./restore-time.ts";
import type { SourceFlags } from "./restore-source.ts";

/** Which state is wanted. */
export interface TargetFlags {
  readonly time?: string;
  readonly lsn?: string;
  readonly xid?: number;
  readonly name?: string;
  readonly immediate?: boolean;
  readonly timeline?: number;
  readonly inclusive?: boolean;
  readonly exclusive?: boolean;
  readonly jobs: number;
}

/** What `pgherd backup restore` and `pgherd backup clone` take. */
export interface RestoreFlags extends TargetFlags, SourceFlags, ChangeFlags {
  readonly to?: string;
  readonly on?: string;
  readonly tablespace?: readonly string[];
  readonly tablespaces?: string;
  readonly verify?: boolean;
  readonly delta?: boolean;
  readonly start?: boolean;
  readonly port?: number;
  readonly listen: string;
  readonly binDir?: string;
}

/** The state that is wanted. @throws Fault USAGE when several targets are named, or one cannot be read */
export function wishedState(
  context: CommandContext,
  flags: TargetFlags,
  operands: readonly string[],
): WishedState {
  return {
    backup: operands[0] ?? null,
    target: targetOf(context, flags),
    inclusive: flags.exclusive !== true,
    timeline: flags.timeline ?? null,
  };
}

/** A restore to a directory; `resolved` makes a path absolute on the host it is for. @throws Fault USAGE */
export function wishOf(
  state: WishedState,
  flags: RestoreFlags,
  to: Pick<RestoreWish, "dir" | "tablespacesBelow" | "start">,
  resolved: (path: string) => string,
): RestoreWish {
  return {
    ...state,
    ...to,
    tablespaces: placesOf(flags.tablespace ?? [], resolved),
    delta: flags.delta === true,
    verify: flags.verify === true,
    jobs: flags.jobs,
  };
}

function targetOf(context: CommandContext, flags: TargetFlags): WishedTarget {
  const targets: WishedTarget[] = [];
  if (flags.time !== undefined) {
    const now = new Date(context.io.clock.wall());
    const zone = context.globals.utc === true ? "utc" : "local";
    targets.push({ kind: "time", time: parseMoment(flags.time, now, zone) });
  }
  if (flags.lsn !== undefined) {
    if (parseLsn(flags.lsn) === undefined)
      throw new Fault("USAGE", `${flags.lsn} is not a position in the WAL`, {
        hint: "For example 0/5A2F1C8.",
      });
    targets.push({ kind: "lsn", lsn: flags.lsn });
  }
  if (flags.xid !== undefined) targets.push({ kind: "xid", xid: flags.xid });
  if (flags.name !== undefined) targets.push({ kind: "name", name: flags.name });
  if (flags.immediate === true) targets.push({ kind: "immediate" });
  if (targets.length > 1 || (flags.inclusive === true && flags.exclusive === true))
    throw new Fault("USAGE", "Only one target can be reached", {
      hint: "Give one of --time, --lsn, --xid, --name, --immediate; --inclusive or --exclusive.",
    });
  return targets[0] ?? { kind: "latest" };
}

function placesOf(
  texts: readonly string[],
  resolved: (path: string) => string,
): Readonly<Record<string, string>> {
  return Object.fromEntries(
    texts.map((text) => {
      const at = text.indexOf("=");
      if (at <= 0 || at === text.length - 1)
        throw new Fault("USAGE", `--tablespace ${text} names no place`, {
          hint: "For example --tablespace 16420=/srv/restore-fast.",
        });
      return [text.slice(0, at), resolved(text.slice(at + 1))] as const;
    }),
  );
}

/** Makes a path of this host absolute. */
export function resolvedHere(context: CommandContext): (path: string) => string {
  return (path) => resolve(context.io.directory, path);
}

/** On a terminal one line that is redrawn, elsewhere a line for each step. */
export function progressLine(context: CommandContext): (progress: RestoreStep) => void {
  const { stderr, clock } = context.io;
  let last = "";
  let drawn = -1_000;
  return ({ step, done, total }) => {
    const kind = step.replace(/[0-9A-F]{24}/, "");
    if (kind === last && clock.now() - drawn < 200) return;
    drawn = clock.now();
    const counted = step === "copying" ? bytesText(done ?? 0) : String(done ?? "");
    const share =
      done === null || total === null || total === 0
        ? ""
        : ` ${Math.floor((done / total) * 100)} %, ${counted}`;
    if (stderr.terminal) stderr.write(`\r\u001b[K  ${step}${share}`);
    else if (kind !== last) stderr.write(`  ${step}\n`);
    last = kind;
  };
}
