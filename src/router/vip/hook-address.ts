import type { VipSettings } from "../../config/router-config.ts";
import { Fault } from "../../values/fault.ts";
import { elapsedMs, type Instant } from "../../values/time.ts";
import { toolProblem } from "../host/tool.ts";
import type { AddressPorts, VipAddress } from "./address.ts";

/** A placed address is looked at this often, where there is a command for it. */
const verifyEveryMs = 10_000;

type Commands = NonNullable<VipSettings["commands"]>;

/**
 * A virtual address that a cloud moves: by the operator's commands, which get it in their environment. There is no lifetime in a
 * kernel here: an address whose router is gone stays until the next holder's `acquire` takes it away, which must be able to.
 */
export function hookAddress(settings: VipSettings, commands: Commands, ports: AddressPorts): VipAddress {
  let verified: Instant | null = null;

  const run = async (name: keyof Commands): Promise<string | null> => {
    const chosen = commands[name];
    const [program, ...args] = chosen?.command ?? [];
    if (chosen === null || program === undefined) return null;
    const result = await ports.tool(program, args, {
      timeoutMs: chosen.timeoutMs,
      env: {
        PGHERD_VIP: settings.name,
        PGHERD_VIP_ADDRESS: settings.address,
        PGHERD_VIP_INTERFACE: settings.interface,
        PGHERD_VIP_ACTION: name,
      },
    });
    return result.code === 0 ? null : toolProblem(program, result);
  };
  const mustRun = async (name: "acquire" | "release"): Promise<void> => {
    const problem = await run(name);
    if (problem !== null)
      throw new Fault("VIP_FAILED", `The command ${name} of ${settings.name} failed.`, { detail: problem });
  };

  return {
    inspect: () => Promise.resolve({ problem: null, present: verified !== null, permanent: false }),
    takenBy: () => Promise.resolve(null),
    async put(deadline) {
      const now = ports.clock.now();
      if (now >= deadline) return "late";
      if (verified !== null && elapsedMs(verified, now) < verifyEveryMs) return "placed";
      if (verified === null || (await run("verify")) !== null) await mustRun("acquire");
      verified = ports.clock.now();
      return "placed";
    },
    async remove() {
      verified = null;
      await mustRun("release");
    },
    announce: () => () => undefined,
  };
}
