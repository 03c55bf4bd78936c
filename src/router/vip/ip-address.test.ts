import { describe, expect, it } from "vitest";
import type { VipSettings } from "../../config/router-config.ts";
import { systemTimers } from "../../system/timers.ts";
import type { Instant, WallTime } from "../../values/time.ts";
import { ManualTime } from "../../../test/support/manual-time.ts";
import type { RunTool, ToolResult } from "../host/tool.ts";
import { ipAddress, parseAddressFacts } from "./ip-address.ts";

const settings: VipSettings = {
  name: "vip",
  address: "10.0.0.100",
  prefixLength: 24,
  interface: "eth0",
  bind: "router",
  node: null,
  priority: 100,
  preempt: false,
  lockMs: 4000,
  lifetimeMs: 10_000,
  duplicateCheck: true,
  commands: null,
  notify: { gained: null, lost: null, fault: null },
};

/** What `ip -j address show` prints of an interface. */
function printed(fields: Record<string, unknown>, addresses: unknown[] = []): string {
  return JSON.stringify([
    { ifname: "eth0", flags: ["UP"], operstate: "UP", addr_info: addresses, ...fields },
  ]);
}

describe("the facts of an interface", () => {
  const own = { local: "10.0.0.100", valid_life_time: 3 };
  it.each([
    ["without the address", printed({}), { problem: null, present: false, permanent: false }],
    ["with it for a while", printed({}, [own]), { problem: null, present: true, permanent: false }],
    [
      "with it for ever",
      printed({}, [{ ...own, valid_life_time: 4294967295 }]),
      { problem: null, present: true, permanent: true },
    ],
    ["that nobody has put up", printed({ flags: [] }), { problem: "the interface eth0 is not up" }],
    ["without a cable", printed({ operstate: "LOWERLAYERDOWN" }), { problem: "the link of eth0 is down" }],
    ["that is not there", "[{}]", { problem: "the interface is not there" }],
  ])("%s", (_, text, facts) => {
    expect(parseAddressFacts(text, "10.0.0.100")).toMatchObject(facts);
  });

  it("an IPv6 address is the same however it is written", () => {
    const text = printed({}, [{ local: "fd77::100", valid_life_time: 3 }]);
    expect(parseAddressFacts(text, "FD77:0::0100").present).toBe(true);
  });
});

describe("an address on an interface", () => {
  const time = new ManualTime("2026-11-21T00:00:00.000Z" as WallTime);

  function hostWith(answers: Readonly<Record<string, Partial<ToolResult>>>): {
    address: ReturnType<typeof ipAddress>;
    calls: string[];
  } {
    const calls: string[] = [];
    const tool: RunTool = (program, args) => {
      calls.push([program, ...args].join(" "));
      return Promise.resolve({ code: 0, stdout: "", stderr: "", timedOut: false, ...answers[program] });
    };
    const address = ipAddress(settings, { tool, clock: time, timers: systemTimers, log: () => undefined });
    return { address, calls };
  }

  it("gets a lifetime that ends before the deadline, and nothing when that is too near", async () => {
    const { address, calls } = hostWith({});
    expect(await address.put((time.now() + 3960) as Instant)).toBe("placed");
    expect(await address.put((time.now() + 2600) as Instant)).toBe("late");
    expect(calls).toEqual(["ip address replace 10.0.0.100/24 dev eth0 valid_lft 2 preferred_lft 2"]);
  });

  it("is a fault with the tool's words when it cannot be placed", async () => {
    const { address } = hostWith({ ip: { code: 2, stderr: "RTNETLINK answers: Operation not permitted" } });
    await expect(address.put((time.now() + 3960) as Instant)).rejects.toMatchObject({
      code: "VIP_FAILED",
      detail: expect.stringContaining("not permitted") as string,
    });
  });

  it("takes its connections along when it goes; that it was gone is no failure", async () => {
    const { address, calls } = hostWith({ ip: { code: 2, stderr: "Error: ipv4: Address not found." } });
    await address.remove();
    expect(calls).toEqual([
      "ip address delete 10.0.0.100/24 dev eth0",
      "ss -K -n state connected src 10.0.0.100",
    ]);
    const broken = hostWith({ ip: { code: 2, stderr: "RTNETLINK answers: Operation not permitted" } });
    await expect(broken.address.remove()).rejects.toMatchObject({ code: "VIP_FAILED" });
  });

  it("is another's when somebody answers for it", async () => {
    const reply = "Unicast reply from 10.0.0.100 [CE:A8:87:38:F0:BD]  0.605ms\n";
    expect(await hostWith({ arping: { code: 1, stdout: reply } }).address.takenBy()).toBe(
      "ce:a8:87:38:f0:bd",
    );
    expect(await hostWith({ arping: { code: null, timedOut: true } }).address.takenBy()).toBeNull();
  });
});
