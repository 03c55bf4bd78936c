import { readFileSync, writeFileSync } from "node:fs";
import { z } from "zod";
import type { VipSettings } from "../../config/router-config.ts";
import { Fault } from "../../values/fault.ts";
import type { Instant } from "../../values/time.ts";
import { toolProblem, type ToolResult } from "../host/tool.ts";
import type { AddressFacts, AddressPorts, PutOutcome, VipAddress } from "./address.ts";
import { announceIpv4, announceIpv6 } from "./announce.ts";
import { lifetimeSeconds, placeLimitMs } from "./lifetime.ts";

const inspectLimitMs = 2000;
const removeLimitMs = 2000;
/** Another host on the same network answers within a few milliseconds. */
const probeLimitMs = 400;
/** The kernel's word for a lifetime without end. */
const forever = 4_294_967_295;

const linksSchema = z.array(
  z.object({
    ifname: z.string().optional(),
    operstate: z.string().optional(),
    flags: z.array(z.string()).optional(),
    addr_info: z
      .array(z.object({ local: z.string().optional(), valid_life_time: z.number().optional() }))
      .optional(),
  }),
);

/** Facts of an interface out of `ip -j address show dev NAME`. */
export function parseAddressFacts(text: string, address: string): AddressFacts {
  const links = linksSchema.safeParse(JSON.parse(text));
  const link = links.success ? links.data.find(({ ifname }) => ifname !== undefined) : undefined;
  if (link === undefined) return { problem: "the interface is not there", present: false, permanent: false };
  const found = link.addr_info?.find(({ local }) => local === canonical(address));
  const up = link.flags?.includes("UP") === true;
  const problem = !up
    ? `the interface ${link.ifname ?? ""} is not up`
    : link.operstate === "DOWN" || link.operstate === "LOWERLAYERDOWN"
      ? `the link of ${link.ifname ?? ""} is down`
      : null;
  return { problem, present: found !== undefined, permanent: found?.valid_life_time === forever };
}

/** An address as the kernel writes it: IPv6 in its shortest form. */
function canonical(address: string): string {
  return address.includes(":") ? new URL(`http://[${address}]`).hostname.slice(1, -1) : address;
}

/** A virtual address on an interface of this host, by `ip`, `arping`, `ndisc6` and `ss`. */
export function ipAddress(settings: VipSettings, ports: AddressPorts): VipAddress {
  const { address, prefixLength, interface: device } = settings;
  const ipv6 = address.includes(":");
  const spec = `${address}/${prefixLength}`;
  const { tool, clock } = ports;
  /** Whether the kernel has it by this process's doing. */
  let placed = false;

  const put = async (deadline: Instant): Promise<PutOutcome> => {
    const seconds = lifetimeSeconds(clock.now(), deadline, settings.lifetimeMs);
    if (seconds < 1) return "late";
    const first = !placed;
    const args = ["address", "replace", spec, "dev", device, "valid_lft", String(seconds)];
    // Never the source of this host's own connections: a deprecated address is not chosen (RFC 6724).
    args.push("preferred_lft", ipv6 ? "0" : String(seconds));
    const restore = ipv6 && first ? letTheKernelAnnounce(device) : null;
    // Whoever holds the lock need not ask whether the address is taken: duplicates were looked for before.
    if (ipv6 && restore === null) args.push("nodad");
    const result = await tool("ip", args, { timeoutMs: placeLimitMs });
    restore?.();
    if (result.code !== 0) throw addressFault(`${spec} could not be placed on ${device}`, result);
    placed = true;
    return "placed";
  };

  return {
    async inspect() {
      const result = await tool("ip", ["-j", "address", "show", "dev", device], {
        timeoutMs: inspectLimitMs,
      });
      if (result.code !== 0) return { problem: toolProblem("ip", result), present: false, permanent: false };
      return parseAddressFacts(result.stdout, address);
    },
    async takenBy() {
      const [program, args] = ipv6
        ? ["ndisc6", ["-q", "-1", "-n", "-r", "1", "-w", String(probeLimitMs), address, device]]
        : ["arping", ["-D", "-c", "1", "-w", "1", "-I", device, address]];
      // Nobody answered in time is the good case: arping alone would wait a whole second for it.
      const result = await tool(program, args, { timeoutMs: probeLimitMs });
      return /\b([0-9a-f]{2}(?::[0-9a-f]{2}){5})\b/i.exec(result.stdout)?.[1]?.toLowerCase() ?? null;
    },
    put,
    async remove() {
      placed = false;
      const result = await tool("ip", ["address", "delete", spec, "dev", device], {
        timeoutMs: removeLimitMs,
      });
      // A connection keeps its end when its address goes: it would wait for packets that never come again.
      const cut = await tool(
        "ss",
        ["-K", "-n", "state", "connected", "src", ipv6 ? `[${address}]` : address],
        {
          timeoutMs: removeLimitMs,
        },
      );
      if (cut.code !== 0) ports.log("vip.cut_failed", { address, message: toolProblem("ss", cut) });
      if (
        result.code !== 0 &&
        !/Cannot assign requested address|Address not found|Cannot find device/.test(result.stderr)
      )
        throw addressFault(`${spec} could not be removed from ${device}`, result);
    },
    announce: () => (ipv6 ? announceIpv6(address, device, ports) : announceIpv4(address, device, ports)),
  };
}

function addressFault(what: string, result: ToolResult): Fault {
  return new Fault("VIP_FAILED", `${what}.`, {
    detail: toolProblem("ip", result),
    hint: "Look at the interface's name and at the capabilities of this process (CAP_NET_ADMIN).",
  });
}

/**
 * IPv6 has no gratuitous ARP and Debian no tool for an unsolicited advertisement; the kernel sends one to all nodes when an address
 * becomes usable, if the interface says so and does not look for duplicates itself. Both are put back at once.
 * @returns puts them back; null = they cannot be written
 */
function letTheKernelAnnounce(device: string): (() => void) | null {
  const undo: (() => void)[] = [];
  try {
    for (const [name, value] of [
      ["accept_dad", "0"],
      ["ndisc_notify", "1"],
    ] as const) {
      const path = `/proc/sys/net/ipv6/conf/${device}/${name}`;
      const before = readFileSync(path, "latin1").trim();
      if (before === value) continue;
      writeFileSync(path, value);
      undo.push(() => writeFileSync(path, before));
    }
  } catch {
    for (const back of undo) back();
    return null;
  }
  return () => {
    for (const back of undo) back();
  };
}
