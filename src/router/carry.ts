import { bind, close, execute, parse, sync } from "../pgwire/encode.ts";
import type { Timers } from "../system/timers.ts";
import { type Answer, ask } from "./backend-dialogue.ts";
import { type Backend, inRecovery } from "./backend.ts";
import { singlePrepare } from "./prepare-text.ts";
import type { AdvisoryLock, Snapshot } from "./snapshot.ts";

// Sets up a fresh connection as another one was. Each step is checked: a session is the same on its new server, or it is not
// carried at all.

/** What makes a session the same on another server. */
export interface CarriedState {
  /** null = nothing was ever changed in the session. */
  readonly snapshot: Snapshot | null;
  /** The Parse messages of its named statements, as the client sent them. */
  readonly statements: readonly Buffer[];
  /** The same of the unnamed statement; null = none that could still be used. */
  readonly unnamed: Buffer | null;
}

/** One batch up to a Sync, and what is wrong with its answer. */
interface Step {
  readonly what: string;
  readonly messages: readonly Buffer[];
  /** @returns null = as it must be */
  check(answer: Answer): string | null;
}

/** Parameters that could end or refuse the steps that follow them: set when all else is done, and on a primary. */
const lateSettings = new Set([
  "default_transaction_isolation",
  "default_transaction_deferrable",
  "default_transaction_read_only",
  "statement_timeout",
  "transaction_timeout",
  "lock_timeout",
  "idle_session_timeout",
  "idle_in_transaction_session_timeout",
]);

const ownName = Buffer.from("_pgherd_carry", "latin1");
const textType = 25;
/** Far more than a replay takes; a server that hangs is given up. */
const stepMs = 10_000;

const latin1 = (text: string): Buffer => Buffer.from(text, "latin1");

/** Statement and portal have a name of our own: the unnamed statement is the client's. */
function run(sql: string | Buffer, values: readonly string[] = []): Buffer[] {
  const types = values.map(() => textType);
  return [
    // One may be left from a step that failed.
    close("statement", ownName),
    parse(ownName, typeof sql === "string" ? latin1(sql) : sql, types),
    bind(ownName, ownName, values.map(latin1)),
    execute(ownName),
    close("portal", ownName),
    close("statement", ownName),
  ];
}

function settingStep(what: string, settings: readonly (readonly [string, string])[]): Step {
  return {
    what,
    messages: settings.flatMap(([name, value]) =>
      run("select pg_catalog.set_config($1, $2, false)", [name, value]),
    ),
    check: (answer) => {
      const wrong = settings.findIndex(([, value], index) => answer.rows[index]?.[0] !== value);
      return wrong === -1 ? null : `${settings[wrong]?.[0] ?? ""} did not take its value`;
    },
  };
}

const noCheck = (): null => null;

function earlySteps(state: CarriedState): Step[] {
  const { snapshot } = state;
  const steps: Step[] = [];
  const settings = [...(snapshot?.settings ?? [])].filter(([name]) => !lateSettings.has(name));
  // First: the other values are in this encoding.
  for (const encoding of settings.filter(([name]) => name === "client_encoding"))
    steps.push(settingStep("client_encoding", [encoding]));
  const others = settings.filter(([name]) => name !== "client_encoding");
  if (others.length > 0) steps.push(settingStep("the session's parameters", others));
  for (const [name, text] of snapshot?.prepared ?? []) {
    const single = singlePrepare(text, name);
    steps.push({
      what: `the prepared statement ${name}`,
      messages: single === null ? [] : run(latin1(single)),
      check: () => (single === null ? "its text cannot be told from the statements around it" : null),
    });
  }
  if (state.statements.length > 0)
    steps.push({
      what: "the statements prepared by the driver",
      messages: state.statements,
      check: (answer) => (answer.parsed === state.statements.length ? null : "not all of them were prepared"),
    });
  const user = snapshot?.sessionUser ?? "";
  // The login's own user, or one taken by SET SESSION AUTHORIZATION.
  if (user !== "") steps.push(settingStep("the session's user", [["session_authorization", user]]));
  if (snapshot !== null && snapshot.role !== "none")
    steps.push(settingStep("the role", [["role", snapshot.role]]));
  // Last: any other use of the unnamed statement would take its place.
  if (state.unnamed !== null)
    steps.push({ what: "the unnamed statement", messages: [state.unnamed], check: noCheck });
  return steps;
}

function lateSteps(snapshot: Snapshot): Step[] {
  const steps: Step[] = [];
  if (snapshot.channels.length > 0)
    steps.push({
      what: "the channels it listens on",
      messages: snapshot.channels.flatMap((channel) => run(`listen "${channel.replaceAll('"', '""')}"`)),
      check: noCheck,
    });
  if (snapshot.locks.length > 0)
    steps.push({
      what: "the advisory locks",
      messages: snapshot.locks.flatMap(lockAgain),
      check: (answer) =>
        answer.rows.every((row) => row[0] === "t") ? null : "somebody else holds one of them",
    });
  const late = [...snapshot.settings].filter(([name]) => lateSettings.has(name));
  if (late.length > 0) steps.push(settingStep("the session's time limits and defaults", late));
  return steps;
}

/** A lock by one key of 64 bits shows its halves as classid and objid. */
function lockAgain(lock: AdvisoryLock): Buffer[] {
  const name = lock.shared ? "pg_try_advisory_lock_shared" : "pg_try_advisory_lock";
  const keys =
    lock.kind === "1"
      ? [BigInt.asIntN(64, (BigInt(lock.classId) << 32n) | BigInt(lock.objId)).toString()]
      : [lock.classId, lock.objId].map((half) => BigInt.asIntN(32, BigInt(half)).toString());
  const type = lock.kind === "1" ? "int8" : "int4";
  return run(`select pg_catalog.${name}(${keys.map((key) => `'${key}'::pg_catalog.${type}`).join(", ")})`);
}

/** Runs the steps in one go. @returns what failed; null = all is as it was */
async function play(backend: Backend, steps: readonly Step[], timers: Timers): Promise<string | null> {
  if (steps.length === 0) return null;
  const bytes = Buffer.concat(steps.flatMap((step) => [...step.messages, sync()]));
  const { answers } = await ask(backend, { bytes, syncs: steps.length, timeoutMs: stepMs }, timers);
  for (const [index, step] of steps.entries()) {
    const answer = answers[index];
    if (answer === undefined) return `${step.what}: no answer`;
    if (answer.error !== null) return `${step.what}: ${answer.error.message} (${answer.error.code})`;
    const wrong = step.check(answer);
    if (wrong !== null) return `${step.what}: ${wrong}`;
  }
  return null;
}

/** The part that a standby accepts too. @returns what failed; null = all is as it was. @throws {BackendFailure} it is gone */
export function replayEarly(backend: Backend, state: CarriedState, timers: Timers): Promise<string | null> {
  return play(backend, earlySteps(state), timers);
}

/**
 * The rest, on a primary: channels, advisory locks, time limits. @returns and @throws as replayEarly
 */
export function replayLate(backend: Backend, state: CarriedState, timers: Timers): Promise<string | null> {
  return play(backend, state.snapshot === null ? [] : lateSteps(state.snapshot), timers);
}

/** Undoes what a replay did, for another one on the same connection. @returns what failed */
export function replayNothing(backend: Backend, timers: Timers): Promise<string | null> {
  return play(backend, [{ what: "DISCARD ALL", messages: run("discard all"), check: noCheck }], timers);
}

/**
 * Asks the server whether it still is in recovery: a session of a standby learns of the promotion with its next answer.
 * @throws {BackendFailure} the connection is gone
 */
export async function stillInRecovery(backend: Backend, timers: Timers): Promise<boolean> {
  if (inRecovery(backend) !== null) {
    await ask(backend, { bytes: sync(), syncs: 1, timeoutMs: stepMs }, timers);
    return inRecovery(backend) === true;
  }
  const bytes = Buffer.concat([...run("select pg_catalog.pg_is_in_recovery()"), sync()]);
  const { answers } = await ask(backend, { bytes, syncs: 1, timeoutMs: stepMs }, timers);
  return answers[0]?.rows[0]?.[0] !== "f";
}

/**
 * Opens a transaction and lets it fail: from here on PostgreSQL itself answers as it does in a failed transaction.
 * @returns what went wrong; @throws {BackendFailure} the connection is gone
 */
export async function failTransaction(backend: Backend, timers: Timers): Promise<string | null> {
  const failing = "/* pgherd: the client's transaction was lost with its server */ select 1/0";
  const bytes = Buffer.concat([...run("begin"), ...run(failing), sync()]);
  const { answers } = await ask(backend, { bytes, syncs: 1, timeoutMs: stepMs }, timers);
  return answers[0]?.state === 0x45 ? null : "no failed transaction could be opened";
}
