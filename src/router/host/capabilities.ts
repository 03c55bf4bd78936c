import { accessSync, constants, readFileSync } from "node:fs";
import { join } from "node:path";
import { Fault } from "../../values/fault.ts";
import { missingTool, toolPath } from "./tool.ts";

/** The bits of Linux's capabilities (capability.h). */
const bits = { CAP_NET_ADMIN: 12n, CAP_NET_RAW: 13n } as const;
export type Capability = keyof typeof bits;

/** Which of these a process has not, by its `/proc/PID/status`: none of them when that cannot be read. */
export function missingCapabilities(status: string, needed: readonly Capability[]): Capability[] {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1];
  if (effective === undefined) return [];
  const mask = BigInt(`0x${effective}`);
  return needed.filter((name) => (mask & (1n << bits[name])) === 0n);
}

/** What a part of the router needs of its host. */
export interface HostNeeds {
  /** What cannot work without, for the message. */
  readonly what: string;
  readonly capabilities: readonly Capability[];
  readonly tools: readonly string[];
}

/** @throws Fault CAPABILITY_MISSING, TOOL_MISSING: what is missing and how to get it */
export function requireHost(needs: HostNeeds): void {
  const missing = missingCapabilities(ownStatus(), needs.capabilities);
  if (missing.length > 0)
    throw new Fault("CAPABILITY_MISSING", `${needs.what} needs ${missing.join(" and ")}.`, {
      detail: `This process (user ${process.getuid?.() ?? "?"}) has not got ${missing.length === 1 ? "it" : "them"}.`,
      hint: `In the unit of systemd: AmbientCapabilities=${needs.capabilities.join(" ")} (deploy/systemd has one); in a container: --cap-add, and a network of the host.`,
    });
  for (const tool of needs.tools)
    if (findTool(tool) === null) throw missingTool(tool, "It is not on the search path.");
}

/** Where a tool is; null = nowhere on the search path. */
function findTool(name: string): string | null {
  for (const place of toolPath(process.env["PATH"]).split(":")) {
    if (place === "") continue;
    const path = join(place, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // not there
    }
  }
  return null;
}

function ownStatus(): string {
  try {
    return readFileSync("/proc/self/status", "utf8");
  } catch {
    return "";
  }
}
