import { describe, expect, it } from "vitest";
import { MalformedMessage } from "../../src/pgwire/malformed.ts";
import { fuzz, FuzzFailure, type Target } from "./runner.ts";
import { readClient, readServer, replies, requests } from "./session-targets.ts";
import { targets } from "./targets.ts";

describe("what strangers send", () => {
  it("ends in a result or a typed error, 20,000 times", { timeout: 60_000 }, () => {
    const tallies = fuzz(targets, 1, 20_000);
    expect(tallies.reduce((sum, tally) => sum + tally.inputs, 0)).toBe(20_000);
    // Inputs that are all refused, or all accepted, would not try much.
    const shares = tallies.map((tally) => [tally.target, tally.refused / tally.inputs] as const);
    const oneSided = shares.filter(([, refused]) => refused > 0.99).map(([target]) => target);
    expect(oneSided).toEqual([]);
  });

  it("is reported with its seed and bytes when it breaks something", () => {
    const target: Target = {
      name: "broken",
      make: (rng) => Buffer.from([rng.below(4)]),
      run: (input) => {
        if (input[0] === 0) throw new MalformedMessage("x", "y");
        if (input[0] === 3) throw new TypeError("cannot read");
      },
    };
    expect(() => fuzz([target], 7, 100)).toThrow(FuzzFailure);
    expect(() => fuzz([target], 7, 100)).toThrow(/broken, seed 7, input \d+: 03\nTypeError: cannot read/);
  });

  it("reads the same when it is cut in two anywhere, and when every byte comes alone", () => {
    const asked = Buffer.concat(requests);
    const told = Buffer.concat(replies);
    const single = (stream: Buffer): Buffer[] => [...stream].map((byte) => Buffer.from([byte]));
    const client = readClient([asked]);
    const server = readServer([told], requests, false);
    expect([client.malformed, client.forwarded.equals(asked)]).toEqual([false, true]);
    expect([server.malformed, server.forwarded.equals(told)]).toEqual([false, true]);
    expect(readClient(single(asked))).toEqual(client);
    expect(readServer(single(told), requests, false)).toEqual(server);
    for (let at = 0; at <= asked.length; at++)
      expect(readClient([asked.subarray(0, at), asked.subarray(at)]), `${at}`).toEqual(client);
    for (let at = 0; at <= told.length; at++)
      expect(readServer([told.subarray(0, at), told.subarray(at)], requests, false), `${at}`).toEqual(server);
  });
});
