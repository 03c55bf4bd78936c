import { request as httpRequest, type Agent, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import { systemTimers } from "../system/timers.ts";
import { Fault, faultCatalogue, type FaultCode } from "../values/fault.ts";
import type { Secret } from "../values/secret.ts";

/** One request, before it is known who answers it. */
export interface Question {
  readonly method: string;
  readonly path: string;
  /** JSON text, or null for none. */
  readonly body: string | null;
  readonly token: Secret | null;
  /** PEM, or null for those of the system. */
  readonly authorities: string | null;
  /** For making the connection. */
  readonly connectMs: number;
  /** For the whole exchange. */
  readonly timeoutMs: number;
  /** Keeps connections for the next question; absent = a connection of its own. Only for what may be asked twice. */
  readonly connections?: Agent;
}

/** silent: no answer came; `sent` says whether the request may have arrived. */
export type Answer =
  | { readonly kind: "answered"; readonly body: unknown }
  | { readonly kind: "silent"; readonly reason: string; readonly sent: boolean };

/** No answer of an agent comes near this size. */
const answerLimitBytes = 32 * 1024 * 1024;

/**
 * Asks one agent.
 * @throws Fault with the agent's code when it refuses, API_UNREACHABLE when something else than an agent answers
 */
export async function askOnce(base: string, question: Question): Promise<Answer> {
  let exchange = await exchangeWith(base, question, question.connections);
  // The agent may have closed a kept connection at the very moment it was used.
  if (exchange.kind === "closed") exchange = await exchangeWith(base, question);
  if (exchange.kind !== "done") return { kind: "silent", reason: exchange.reason, sent: exchange.sent };
  const body = parsed(exchange.text);
  if (exchange.status < 400 && body !== undefined) return { kind: "answered", body };
  throw faultOf(body) ?? notAnAgent(base, exchange.status);
}

/** closed: a connection that was kept turned out to be gone. */
type Exchange =
  | { readonly kind: "done"; readonly status: number; readonly text: string }
  | { readonly kind: "silent" | "closed"; readonly reason: string; readonly sent: boolean };

function exchangeWith(base: string, question: Question, connections?: Agent): Promise<Exchange> {
  return new Promise((resolve) => {
    let sent = false;
    const url = new URL(question.path, base);
    const secure = url.protocol === "https:";
    const over = (exchange: Exchange): void => {
      connecting.cancel();
      whole.cancel();
      resolve(exchange);
    };
    const giveUp = (reason: string): void => {
      over({ kind: "silent", reason, sent });
      outgoing.destroy();
    };
    const outgoing = (secure ? httpsRequest : httpRequest)(
      url,
      {
        method: question.method,
        agent: connections ?? false,
        headers: headersOf(question),
        // Kept connections have the authorities they were made for.
        ...(secure &&
          connections === undefined &&
          question.authorities !== null && { ca: question.authorities }),
      },
      (incoming) => {
        collect(incoming, (text) => over({ kind: "done", status: incoming.statusCode ?? 0, text }), giveUp);
      },
    );
    const connectMs = Math.min(question.connectMs, question.timeoutMs);
    const connecting = systemTimers.after(connectMs, () => {
      if (!sent) giveUp(`no connection within ${question.connectMs} ms`);
    });
    const whole = systemTimers.after(question.timeoutMs, () =>
      giveUp(`no answer within ${question.timeoutMs} ms`),
    );
    outgoing.on("socket", (socket) => {
      if (outgoing.reusedSocket) sent = true;
      else
        socket.once(secure ? "secureConnect" : "connect", () => {
          sent = true;
        });
    });
    outgoing.on("error", (problem: NodeJS.ErrnoException) => {
      const gone = outgoing.reusedSocket && (problem.code === "ECONNRESET" || problem.code === "EPIPE");
      if (gone) over({ kind: "closed", reason: problemText(problem), sent });
      else giveUp(problemText(problem));
    });
    outgoing.end(question.body ?? undefined);
  });
}

/** A refused connection to a name with several addresses has a code, but no message of its own. */
function problemText(problem: NodeJS.ErrnoException): string {
  return problem.message === "" ? (problem.code ?? problem.name) : problem.message;
}

function headersOf(question: Question): Record<string, string> {
  return {
    accept: "application/json",
    ...(question.body !== null && {
      "content-type": "application/json",
      "content-length": String(Buffer.byteLength(question.body)),
    }),
    ...(question.token !== null && { authorization: `Bearer ${question.token.reveal()}` }),
  };
}

function collect(
  incoming: IncomingMessage,
  whole: (text: string) => void,
  failed: (reason: string) => void,
): void {
  const chunks: Buffer[] = [];
  let size = 0;
  incoming.on("data", (chunk: Buffer) => {
    size += chunk.length;
    if (size > answerLimitBytes) failed(`the answer is larger than ${answerLimitBytes} bytes`);
    else chunks.push(chunk);
  });
  incoming.on("end", () => whole(Buffer.concat(chunks).toString("utf8")));
  incoming.on("error", (problem) => failed(problemText(problem)));
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

/** The fault an agent reported, or undefined when the body is none. */
function faultOf(body: unknown): Fault | undefined {
  if (typeof body !== "object" || body === null) return undefined;
  const { code, message, detail, hint } = body as Readonly<Record<string, unknown>>;
  if (typeof code !== "string" || typeof message !== "string") return undefined;
  // An agent newer than this client may know codes that it does not.
  if (!isFaultCode(code)) return new Fault("INTERNAL", message, { detail: `The agent's code is ${code}.` });
  return new Fault(code, message, {
    ...(typeof detail === "string" && { detail }),
    ...(typeof hint === "string" && { hint }),
  });
}

function isFaultCode(code: string): code is FaultCode {
  return Object.hasOwn(faultCatalogue, code);
}

function notAnAgent(base: string, status: number): Fault {
  return new Fault("API_UNREACHABLE", `What answers at ${base} is not a pgherd agent`, {
    detail: `It answered with status ${status} and no fault of pgherd.`,
    hint: "Check the address and the port (8008 unless the node file says otherwise).",
  });
}
