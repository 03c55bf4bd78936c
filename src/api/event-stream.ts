import { request as httpRequest, type ClientRequest, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import type { Timer, Timers } from "../system/timers.ts";

/** How the stream of an agent is read. */
export interface StreamReader {
  /** The agent's API, without a closing slash. */
  readonly url: string;
  /** PEM, or null for those of the system; asked for with each connection. */
  readonly authorities: () => Promise<string | null>;
  readonly timers: Timers;
  /** Each event: its name and its data, parsed. */
  readonly onEvent: (name: string, data: unknown) => void;
}

const connectMs = 3_000;
/** The agent gives a sign of life every ten seconds. */
const silentMs = 25_000;
const leastRetryMs = 500;
const mostRetryMs = 5_000;
/** No event of an agent comes near this size. */
const mostChars = 4 * 1024 * 1024;

/** Follows `/v1/stream` of one agent and connects again whenever it ends. @returns stops it */
export function followStream(reader: StreamReader): () => void {
  const { timers } = reader;
  let request: ClientRequest | null = null;
  let limit: Timer | null = null;
  let retry: Timer | null = null;
  let waitMs = leastRetryMs;
  let stopped = false;

  const again = (): void => {
    limit?.cancel();
    request?.destroy();
    request = null;
    if (stopped || retry !== null) return;
    retry = timers.after(waitMs, () => {
      retry = null;
      void begin();
    });
    waitMs = Math.min(mostRetryMs, waitMs * 2);
  };
  const expectWithin = (ms: number): void => {
    limit?.cancel();
    limit = timers.after(ms, again);
  };
  const begin = async (): Promise<void> => {
    const authorities = await reader.authorities().catch(() => null);
    if (stopped) return;
    const url = new URL("/v1/stream", reader.url);
    const secure = url.protocol === "https:";
    expectWithin(connectMs);
    const outgoing = (secure ? httpsRequest : httpRequest)(
      url,
      {
        agent: false,
        headers: { accept: "text/event-stream" },
        ...(secure && authorities !== null && { ca: authorities }),
      },
      (incoming) => {
        if (incoming.statusCode !== 200) {
          again();
          return;
        }
        waitMs = leastRetryMs;
        expectWithin(silentMs);
        readEvents(
          incoming,
          () => expectWithin(silentMs),
          (name, data) => {
            if (!stopped) reader.onEvent(name, data);
          },
          again,
        );
      },
    );
    request = outgoing;
    outgoing.on("error", () => {
      if (request === outgoing) again();
    });
    outgoing.end();
  };
  void begin();
  return () => {
    stopped = true;
    retry?.cancel();
    limit?.cancel();
    request?.destroy();
  };
}

function readEvents(
  incoming: IncomingMessage,
  onLife: () => void,
  onEvent: StreamReader["onEvent"],
  onEnd: () => void,
): void {
  let text = "";
  incoming.setEncoding("utf8");
  incoming.on("data", (chunk: string) => {
    onLife();
    text += chunk;
    if (text.length > mostChars) {
      onEnd();
      return;
    }
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const event = eventOf(text.slice(0, end));
      text = text.slice(end + 2);
      if (event !== null) onEvent(event.name, event.data);
    }
  });
  incoming.on("end", onEnd);
  incoming.on("error", onEnd);
  incoming.on("close", onEnd);
}

/** One block of the stream; null = a sign of life, or nothing that can be read. */
function eventOf(block: string): { readonly name: string; readonly data: unknown } | null {
  const lines = block.split("\n");
  const name = lines.find((line) => line.startsWith("event: "))?.slice("event: ".length);
  const data = lines.find((line) => line.startsWith("data: "))?.slice("data: ".length);
  if (name === undefined || data === undefined) return null;
  try {
    return { name, data: JSON.parse(data) as unknown };
  } catch {
    return null;
  }
}
