import { expect, test } from "vitest";
import { ManualTime } from "../../test/support/manual-time.ts";
import type { WallTime } from "../values/time.ts";
import { Verifiers } from "./verifiers.ts";

/** A source that answers when it is told to. */
function source(): {
  time: ManualTime;
  verifiers: Verifiers;
  asked: { user: string; signal: AbortSignal; answer: (value: string | null) => void; fail: () => void }[];
} {
  const time = new ManualTime("2026-01-01T00:00:00.000Z" as WallTime);
  const asked: ReturnType<typeof source>["asked"] = [];
  const find = (user: string, signal: AbortSignal): Promise<string | null> =>
    new Promise((resolve, reject) => {
      asked.push({ user, signal, answer: resolve, fail: () => reject(new Error("nobody there")) });
    });
  return { time, verifiers: new Verifiers({ find }, time, time), asked };
}

const settled = (): Promise<void> =>
  new Promise((resolve) => process.nextTick(() => queueMicrotask(resolve)));

test("one question serves all that came before it was sent, and nobody who came later", async () => {
  const { verifiers, asked } = source();
  const first = verifiers.find("app");
  await settled();
  expect(asked).toHaveLength(1);
  const later = [verifiers.find("app"), verifiers.find("app"), verifiers.find("app")];
  await settled();
  expect(asked).toHaveLength(1);
  asked[0]?.answer("old");
  expect(await first).toBe("old");
  await settled();
  expect(asked).toHaveLength(2);
  asked[1]?.answer("new");
  expect(await Promise.all(later)).toEqual(["new", "new", "new"]);
  expect(asked).toHaveLength(2);
});

test("users do not wait for each other", async () => {
  const { verifiers, asked } = source();
  void verifiers.find("app");
  const other = verifiers.find("other");
  await settled();
  asked.find(({ user }) => user === "other")?.answer(null);
  expect(await other).toBeNull();
});

test("while nobody answers, what was known before serves for a while", async () => {
  const { verifiers, asked, time } = source();
  const ask = async (then: "answer" | "fail"): Promise<string | null> => {
    const found = verifiers.find("app");
    await settled();
    if (then === "answer") asked.at(-1)?.answer("known");
    else asked.at(-1)?.fail();
    return found;
  };
  await expect(ask("fail")).rejects.toMatchObject({
    code: "57P03",
    detail: "No agent of the cluster answers: nobody there",
  });
  expect(await ask("answer")).toBe("known");
  time.pass(9 * 60_000);
  expect(await ask("fail")).toBe("known");
  time.pass(2 * 60_000);
  await expect(ask("fail")).rejects.toMatchObject({ code: "57P03" });
});

test("a role that is gone is not remembered", async () => {
  const { verifiers, asked } = source();
  for (const answer of ["known", null]) {
    const found = verifiers.find("app");
    await settled();
    asked.at(-1)?.answer(answer);
    expect(await found).toBe(answer);
  }
  const found = verifiers.find("app");
  await settled();
  asked.at(-1)?.fail();
  await expect(found).rejects.toMatchObject({ code: "57P03" });
});

test("a question has its limit, also where the source does not heed it, and the next one is asked", async () => {
  const { verifiers, asked, time } = source();
  const found = verifiers.find("app");
  await settled();
  const next = verifiers.find("app");
  time.pass(3_000);
  await expect(found).rejects.toMatchObject({ code: "57P03" });
  expect(asked[0]?.signal.aborted).toBe(true);
  await settled();
  asked[1]?.answer("known");
  expect(await next).toBe("known");
});
