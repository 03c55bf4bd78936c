import { describe, expect, test } from "vitest";
import { commit, dcsContract, record, replay, transaction } from "../dcs.contract.ts";
import { systemTimers, type Timers } from "../../system/timers.ts";
import { createMemoryDcs } from "./memory-dcs.ts";

/** Ten times as fast as the clock on the wall. */
const timers: Timers = {
  after: (ms, run) => systemTimers.after(ms / 10, run),
  sleep: (ms, signal) => systemTimers.sleep(ms / 10, signal),
};

const variants = { "memory, at once": 0, "memory, 10 ms each way": 10 };
for (const [name, delay] of Object.entries(variants))
  dcsContract(name, () => {
    const store = createMemoryDcs({ timers, delayMs: () => delay });
    return Promise.resolve({
      connect: (prefix) => store.connect(prefix),
      connectBreakable: (prefix) => {
        const dcs = store.connect(prefix);
        return Promise.resolve({
          dcs,
          break: () => dcs.setNetwork("down"),
          heal: () => dcs.setNetwork("up"),
        });
      },
      compact: () => {
        store.compact();
        return Promise.resolve();
      },
      stop: () => Promise.resolve(),
    });
  });

describe("the memory DCS", () => {
  test("a write whose reply is lost is uncertain and has taken effect", async () => {
    const store = createMemoryDcs();
    const dcs = store.connect("/service/a/");
    const other = store.connect("/service/a/");
    dcs.setNetwork("replies-lost");
    await expect(dcs.transact(transaction([], [["k", "1"]]), 20)).rejects.toMatchObject({
      code: "DCS_UNCERTAIN",
    });
    expect((await other.read(1000)).entries.get("k")?.value).toBe("1");
    await Promise.all([dcs.close(), other.close()]);
  });

  test("a write while the network is down surely did not take effect", async () => {
    const store = createMemoryDcs();
    const dcs = store.connect("/service/a/");
    dcs.setNetwork("down");
    await expect(dcs.transact(transaction([], [["k", "1"]]), 20)).rejects.toMatchObject({
      code: "DCS_UNREACHABLE",
    });
    dcs.setNetwork("up");
    expect((await dcs.read(1000)).entries.size).toBe(0);
    await dcs.close();
  });

  test("changes beyond the kept log are bridged by a snapshot", async () => {
    const store = createMemoryDcs();
    const behind = store.connect("/service/a/");
    const writer = store.connect("/service/a/");
    const watched = record(behind);
    await watched.until((events) => events.length > 0);
    behind.setNetwork("down");
    for (let count = 1; count <= 1100; count += 1) await commit(writer, [], [["k", String(count)]]);
    behind.setNetwork("up");
    await watched.until((events) => replay(events).get("k") === "1100");
    expect(watched.events.filter((event) => event.kind === "snapshot")).toHaveLength(2);
    await Promise.all([behind.close(), writer.close()]);
  });
});
