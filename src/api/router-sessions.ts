import { request } from "node:http";
import type { Timers } from "../system/timers.ts";
import type { SessionView } from "../router/sessions.ts";
import { Fault } from "../values/fault.ts";
import type { Secret } from "../values/secret.ts";

const answerMs = 10_000;
/** As many as a router may have are some hundred bytes each. */
const mostChars = 256 * 1024 * 1024;

/**
 * The sessions of one router, from its own HTTP paths.
 * @throws Fault API_UNREACHABLE, UNAUTHORIZED
 */
export function readSessions(apiUrl: string, token: Secret | null, timers: Timers): Promise<SessionView[]> {
  return new Promise((resolve, reject) => {
    const refuse = (reason: string): void => {
      limit.abort();
      reject(
        new Fault("API_UNREACHABLE", `The router does not answer at ${apiUrl}`, {
          detail: reason,
          hint: "Ask on its own host, or let it listen on an address of the network: metrics.listen in its file.",
        }),
      );
    };
    const limit = new AbortController();
    const timer = timers.after(answerMs, () => refuse(`no answer within ${answerMs} ms`));
    const outgoing = request(
      new URL("/sessions", apiUrl),
      {
        agent: false,
        signal: limit.signal,
        headers: token === null ? {} : { authorization: `Bearer ${token.reveal()}` },
      },
      (incoming) => {
        let text = "";
        incoming.setEncoding("utf8");
        incoming.on("data", (chunk: string) => {
          text += chunk;
          if (text.length > mostChars) refuse("the answer is too long");
        });
        incoming.on("error", (error) => refuse(error.message));
        incoming.on("end", () => {
          timer.cancel();
          if (incoming.statusCode === 200) resolve(parsed(text));
          else if (incoming.statusCode === 401)
            reject(
              new Fault("UNAUTHORIZED", "The router wants the token of its cluster", {
                hint: "Give it with --token-file or PGHERD_TOKEN, or ask on a node's host.",
              }),
            );
          else refuse(`status ${incoming.statusCode ?? 0}`);
        });
      },
    );
    outgoing.on("error", (error) => {
      timer.cancel();
      refuse(error.message);
    });
    outgoing.end();
  });
}

/** One JSON object in each line. */
function parsed(text: string): SessionView[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as SessionView);
}
