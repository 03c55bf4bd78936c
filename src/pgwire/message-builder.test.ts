import { expect, it } from "vitest";
import { MessageBuilder } from "./message-builder.ts";

it("keeps every byte when a text or bytes make it grow", () => {
  for (const room of [5, 6, 7, 8, 16])
    for (const piece of ["abcdefgh", Buffer.from("abcdefgh")]) {
      const message = new MessageBuilder(room).begin(0x51).bytes(piece).bytes(piece).end().take();
      expect(message.toString("latin1")).toBe("Q\0\0\0\u0014abcdefghabcdefgh");
    }
});
