import { describe, expect, it } from "vitest";
import type { RunTool } from "../host/tool.ts";
import { cutFlows, parseFlows, socketFilter } from "./flows.ts";

const printed = `tcp      6 431999 ESTABLISHED src=127.0.0.1 dst=127.0.0.1 sport=60850 dport=5000 src=10.0.0.2 dst=10.0.0.1 sport=5432 dport=60850 [ASSURED] mark=0 use=1
tcp      6 117 TIME_WAIT src=10.0.0.3 dst=10.0.0.1 sport=52304 dport=5000 src=10.0.0.2 dst=10.0.0.1 sport=5432 dport=52304 [ASSURED] mark=0 use=1
tcp      6 4 CLOSE src=fd00::3 dst=fd00::1 sport=39618 dport=5000 [UNREPLIED] src=fd00::2 dst=fd00::1 sport=5432 dport=39618 mark=0 use=1
conntrack v1.4.7 (conntrack-tools): 3 flow entries have been deleted.
`;

/** A tool runner that answers as conntrack does and notes what is run. */
function tools(answer: { code: number; stdout: string; stderr: string }): { run: RunTool; calls: string[] } {
  const calls: string[] = [];
  return {
    calls,
    run: (program, args) => {
      calls.push([program, ...args].join(" "));
      const own = program === "conntrack" ? answer : { code: 0, stdout: "", stderr: "" };
      return Promise.resolve({ ...own, timedOut: false });
    },
  };
}

describe("tracked connections", () => {
  it("are read as their clients made them", () => {
    expect(parseFlows(printed)).toEqual([
      { source: "127.0.0.1", sourcePort: 60850, destination: "127.0.0.1", destinationPort: 5000 },
      { source: "10.0.0.3", sourcePort: 52304, destination: "10.0.0.1", destinationPort: 5000 },
      { source: "fd00::3", sourcePort: 39618, destination: "fd00::1", destinationPort: 5000 },
    ]);
  });

  it("are forgotten for one server and one port; only sockets of this host are cut", async () => {
    const { run, calls } = tools({ code: 0, stdout: printed, stderr: "" });
    const count = await cutFlows(
      run,
      5000,
      { address: "10.0.0.2", port: 5432 },
      (each) => each === "127.0.0.1",
    );
    expect(count).toBe(3);
    expect(calls).toEqual([
      "conntrack -D -f ipv4 -p tcp --orig-port-dst 5000 --reply-src 10.0.0.2 --reply-port-src 5432",
      "ss -K -n -t ( src 127.0.0.1:60850 and dst 127.0.0.1:5000 )",
    ]);
  });

  it("none is no failure, anything else is", async () => {
    const none = "conntrack v1.4.7 (conntrack-tools): 0 flow entries have been deleted.";
    const server = { address: "fd00::2", port: 5432 };
    const empty = tools({ code: 1, stdout: "", stderr: none });
    await expect(cutFlows(empty.run, 5000, server, () => true)).resolves.toBe(0);
    const denied = tools({ code: 1, stdout: "", stderr: "Operation failed: Operation not permitted" });
    await expect(cutFlows(denied.run, 5000, server, () => true)).rejects.toThrow("Operation not permitted");
  });

  it("are named to ss one by one, IPv6 in brackets", () => {
    expect(socketFilter(parseFlows(printed).slice(1)).join(" ")).toBe(
      "( src 10.0.0.3:52304 and dst 10.0.0.1:5000 ) or ( src [fd00::3]:39618 and dst [fd00::1]:5000 )",
    );
  });
});
