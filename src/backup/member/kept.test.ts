import { describe, expect, it } from "vitest";
import type { StateFiles } from "../../agent/state-files.ts";
import { systemRandom } from "../../system/random.ts";
import type { FencingToken } from "../../values/names.ts";
import { keptIn } from "./kept.ts";

function files(): StateFiles & { readonly texts: Map<string, string> } {
  const texts = new Map<string, string>();
  return {
    texts,
    read: (name) => Promise.resolve(texts.get(name) ?? null),
    write: (name, text) => Promise.resolve(void texts.set(name, text)),
    remove: (name) => Promise.resolve(void texts.delete(name)),
    append: () => Promise.resolve(),
    lines: () => Promise.resolve([]),
  };
}
const token = (value: number): FencingToken => value as FencingToken;

describe("what a receiver keeps beside its WAL", () => {
  it("is made once and read again, with the highest promise", async () => {
    const at = files();
    const first = await keptIn(at, systemRandom);
    expect(first.promised).toBeNull();
    await Promise.all([first.promise(token(5)), first.promise(token(3))]);
    const again = await keptIn(at, systemRandom);
    expect(again).toMatchObject({ incarnation: first.incarnation, promised: 5 });
  });

  it("keeps the promise when the WAL does not continue: only the member is another", async () => {
    const at = files();
    const kept = await keptIn(at, systemRandom);
    await kept.promise(token(5));
    const { incarnation } = kept;
    await kept.renew();
    expect(kept.incarnation).not.toBe(incarnation);
    expect((await keptIn(at, systemRandom)).promised).toBe(5);
  });

  it("that is damaged is not taken for none", async () => {
    for (const text of ["", "{", '{"incarnation":"a"}', '{"incarnation":"","promised":null}']) {
      const at = files();
      at.texts.set("member.json", text);
      await expect(keptIn(at, systemRandom)).rejects.toMatchObject({ code: "BACKUP_STORE_FAILED" });
    }
  });
});
