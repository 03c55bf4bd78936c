import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { readFile } from "node:fs/promises";
import type { CliIo } from "../io.ts";
import { epochMs } from "../render/quantity.ts";

/**
 * How far the clock of an agent's host is ahead of this one, in milliseconds, from the Date of an HTTP answer; null when
 * there was none. The Date has whole seconds, so that the answer is right to about one second.
 */
export async function clockOffsetMs(
  url: string,
  caFile: string | null,
  io: Pick<CliIo, "clock">,
): Promise<number | null> {
  const ca = caFile === null ? undefined : await readFile(caFile).catch(() => undefined);
  const before = epochMs(io.clock.wall());
  const date = await dateOf(new URL("/liveness", url), ca);
  const after = epochMs(io.clock.wall());
  if (date === null || before === null || after === null) return null;
  // The middle of the second the Date names, against the middle of the exchange.
  return date + 500 - (before + after) / 2;
}

const timeoutMs = 3000;

function dateOf(url: URL, ca: Buffer | undefined): Promise<number | null> {
  return new Promise((resolve) => {
    const secure = url.protocol === "https:";
    const outgoing = (secure ? httpsRequest : httpRequest)(
      url,
      { method: "HEAD", agent: false, timeout: timeoutMs, ...(secure && ca !== undefined && { ca }) },
      (incoming) => {
        incoming.resume();
        resolve(epochMs(incoming.headers.date ?? ""));
      },
    );
    outgoing.on("timeout", () => outgoing.destroy());
    outgoing.on("error", () => resolve(null));
    outgoing.on("close", () => resolve(null));
    outgoing.end();
  });
}
