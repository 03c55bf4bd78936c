import { errorResponse } from "../pgwire/encode.ts";
import { transactionState } from "../pgwire/message-types.ts";
import { type Backend, BackendFailure, inRecovery, type Route } from "./backend.ts";
import { type CarriedState, failTransaction, replayEarly, replayLate, stillInRecovery } from "./carry.ts";
import type { AdmittedClient } from "./client.ts";
import { Refusal } from "./refusal.ts";
import { nobodyServes } from "./session-answers.ts";
import type { SessionContext } from "./session-context.ts";

/** Waits between two attempts to reach a server. */
const firstRetryMs = 20;
const lastRetryMs = 400;
/** The one who tries on behalf of all waits no longer than this part of what has passed: that much an outage grows by it. */
const leaderPart = 0.1;

/** What a connection is to be set up as. */
export interface Wanted {
  readonly client: AdmittedClient;
  /** null = a client that logs in. */
  readonly state: CarriedState | null;
  /** The transaction state the client believes in, one of `transactionState`. */
  readonly status: number;
}

/** How it ended. */
export type Attached =
  | { readonly kind: "attached"; readonly backend: Backend; readonly leave: () => void }
  /** The last message for the client. */
  | { readonly kind: "refused"; readonly message: Buffer }
  /** The session could not be made the same on its new server. */
  | { readonly kind: "unfit"; readonly why: string };

/**
 * Finds a server for a client, logs in, and sets the session up, again and again until it works or the time a client may
 * wait is over. Never fails otherwise than by its result.
 */
export async function attach(
  wanted: Wanted,
  context: SessionContext,
  signal: AbortSignal,
): Promise<Attached> {
  const { clock, routes } = context;
  const startedMs = clock.now();
  const untilMs = startedMs + context.timeouts().holdMs;
  let last: BackendFailure | null = null;
  for (let pauseMs = firstRetryMs; ; pauseMs = Math.min(pauseMs * 2, lastRetryMs)) {
    const route = await routes.next(wanted.client.listener, untilMs, signal);
    if (route === null || signal.aborted) {
      const message = last?.answer ?? nobodyServes(clock.now() - startedMs);
      return { kind: "refused", message };
    }
    const result = await once(wanted, route, context, signal);
    if (!(result instanceof BackendFailure)) {
      if (result.kind === "attached") routes.reached();
      return result;
    }
    if (isFinal(result, wanted)) return { kind: "refused", message: messageOf(result) };
    last = result;
    const now = clock.now();
    if (now >= untilMs) return { kind: "refused", message: messageOf(result) };
    const leaderMs = Math.min(pauseMs, Math.max(firstRetryMs, (now - startedMs) * leaderPart));
    await routes.pause(route.node, { leaderMs, ms: pauseMs }, signal);
  }
}

/**
 * PostgreSQL would say the same again. A new client is told at once that the server is full or lets it in by no rule; one
 * that is carried waits, as it was let in before: a primary after a crash keeps all clients out for a while (P6).
 */
function isFinal(failure: BackendFailure, wanted: Wanted): boolean {
  const code = failure.answer === null ? undefined : failure.said?.code;
  if (code === "53300" || code === "28000") return wanted.state === null;
  return failure.kind === "refused";
}

function messageOf(failure: BackendFailure): Buffer {
  if (failure.answer !== null) return failure.answer;
  return errorResponse(failure.said ?? { severity: "FATAL", code: "08006", message: failure.message });
}

async function once(
  wanted: Wanted,
  route: Route,
  context: SessionContext,
  signal: AbortSignal,
): Promise<Attached | BackendFailure> {
  const { client, state } = wanted;
  let leave: () => void = () => undefined;
  let backend: Backend | null = null;
  const giveUp = <Result>(result: Result): Result => {
    backend?.socket.destroy();
    leave();
    return result;
  };
  try {
    leave = await context.routes.place(route.node, state === null, signal);
    backend = await openBackend(client, route, context, signal);
    const notPrimary = route.token !== null && (await isInRecovery(backend, context));
    if (notPrimary) return giveUp(new BackendFailure("not-ready", `${route.node} is still in recovery`));
    const wrong = await setUp(backend, wanted, context);
    if (wrong !== null) return giveUp({ kind: "unfit", why: wrong });
    // Meanwhile somebody else may lead (F6).
    if (!context.routes.stands(route))
      return giveUp(new BackendFailure("not-ready", `${route.node} does not lead any more`));
    return { kind: "attached", backend, leave };
  } catch (thrown) {
    if (thrown instanceof BackendFailure) return giveUp(thrown);
    if (thrown instanceof Refusal) return giveUp({ kind: "refused", message: thrown.packet() });
    const why = thrown instanceof Error ? thrown.message : String(thrown);
    return giveUp(new BackendFailure("unreachable", why));
  }
}

/** Connects and logs in, with a bound on how many do so at once. @throws {BackendFailure} */
export function openBackend(
  client: AdmittedClient,
  route: Route,
  context: SessionContext,
  signal: AbortSignal,
  connectMs = context.timeouts().connectMs,
): Promise<Backend> {
  return context.logins.run(() => context.connector.open(route, client, connectMs, signal));
}

async function isInRecovery(backend: Backend, context: SessionContext): Promise<boolean> {
  return inRecovery(backend) ?? (await stillInRecovery(backend, context.timers));
}

async function setUp(
  backend: Backend,
  { state, status }: Wanted,
  context: SessionContext,
): Promise<string | null> {
  if (state === null) return null;
  const { timers } = context;
  return (
    (await replayEarly(backend, state, timers)) ??
    (await replayLate(backend, state, timers)) ??
    (status === transactionState.idle ? null : await failTransaction(backend, timers))
  );
}

/** Completes a connection that was set up on the candidate, once that is primary. @returns what failed; null = ready */
export async function wakeUp(
  warm: Backend,
  route: Route,
  state: CarriedState,
  context: SessionContext,
): Promise<string | null> {
  try {
    if (warm.route.node !== route.node) return "it is a connection to another node";
    warm.route = route;
    if (await stillInRecovery(warm, context.timers)) return "the node is still in recovery";
    const wrong = await replayLate(warm, state, context.timers);
    if (wrong !== null) return wrong;
    return context.routes.stands(route) ? null : "the node does not lead any more";
  } catch (thrown) {
    return thrown instanceof Error ? thrown.message : String(thrown);
  }
}
