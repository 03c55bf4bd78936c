import { realpathSync } from "node:fs";
import { basename, dirname, join, resolve, sep } from "node:path";
import { Fault } from "../values/fault.ts";
import type { RestoreWish } from "./restore-port.ts";

/** What a node's operator says of its directories. */
export interface RestorePlaces {
  readonly node: string;
  readonly dataDir: string;
  readonly stateDir: string;
  /** Restores asked for from elsewhere go below this directory only; null = there are none. */
  readonly below: string | null;
}

/**
 * The wish with its paths as the kernel sees them: a link or `..` leads nowhere else. Tablespaces without a place go beside the
 * directory, never to where the node has them.
 * @throws Fault REQUEST_INVALID, BACKUP_TARGET_IN_USE for a place the operator did not allow, or one of the node itself
 */
export function allowedWish(wish: RestoreWish, places: RestorePlaces): RestoreWish {
  const checked = (path: string): string => allowed(path, places);
  const dir = checked(wish.dir);
  return {
    ...wish,
    dir,
    tablespaces: Object.fromEntries(
      Object.entries(wish.tablespaces).map(([name, path]) => [name, checked(path)]),
    ),
    tablespacesBelow: checked(wish.tablespacesBelow ?? `${dir}-tablespaces`),
  };
}

function allowed(path: string, { node, dataDir, stateDir, below }: RestorePlaces): string {
  if (below === null)
    throw new Fault("REQUEST_INVALID", `${node} restores to no directory of its host`, {
      detail: "Its node file does not say below which directory that is allowed.",
      hint: "Set it there, for example backup: { restore_below: /srv/restore }, and reload: pgherd reload.",
    });
  const real = realPlace(path);
  const root = realPlace(below);
  if (real === root || !isWithin(real, root))
    throw new Fault("REQUEST_INVALID", `${node} does not restore to ${path}`, {
      detail: `Its node file allows places below ${below} only (backup.restore_below).`,
      hint: `For example ${join(below, "restored")}.`,
    });
  const data = realPlace(dataDir);
  // What is prepared or set aside for the node has its directory's name with an ending.
  const own = [data, realPlace(stateDir)].find((each) => isWithin(real, each) || isWithin(each, real));
  if (own !== undefined || real.startsWith(`${data}.`))
    throw new Fault("BACKUP_TARGET_IN_USE", `${path} belongs to this node of the cluster`, {
      detail: `The agent works with ${own ?? data}.`,
      hint: "Choose another place; the whole cluster goes back with pgherd backup recover --time ...",
    });
  return real;
}

/** A path with its links resolved, as far as it is there. */
function realPlace(path: string): string {
  const whole = resolve(path);
  try {
    return realpathSync(whole);
  } catch {
    const above = dirname(whole);
    return above === whole ? whole : join(realPlace(above), basename(whole));
  }
}

function isWithin(inner: string, outer: string): boolean {
  return inner === outer || inner.startsWith(outer.endsWith(sep) ? outer : outer + sep);
}
