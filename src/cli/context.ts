import type { Command } from "commander";
import { Fault } from "../values/fault.ts";
import type { Secret } from "../values/secret.ts";
import type { ApiClient } from "../api/client.ts";
import { exitCodes } from "./exit-code.ts";
import type { CliIo } from "./io.ts";
import { createPaint, type Look } from "./render/look.ts";
import { epochMs } from "./render/quantity.ts";
import type { ClusterLocation } from "./find-cluster.ts";

/** The options every command takes. */
export interface GlobalOptions {
  readonly config?: string;
  readonly api?: readonly string[];
  readonly dir?: string;
  readonly tokenFile?: string;
  readonly caFile?: string;
  readonly json?: boolean;
  readonly utc?: boolean;
  readonly color?: boolean;
}

/** The options of every command that changes something. */
export interface ChangeFlags {
  readonly dryRun?: boolean;
  readonly yes?: boolean;
}

/** How a client is made; tests put their own in its place. */
export type Connect = (target: ConnectTarget) => Promise<ApiClient>;

export interface ConnectTarget {
  /** Asked in turn. */
  readonly urls: readonly string[];
  readonly token: Secret | null;
  readonly caFile: string | null;
  readonly timeoutMs: number;
}

/** What a command works with. */
export interface CommandContext {
  readonly io: CliIo;
  /** The whole command tree. */
  readonly program: Command;
  readonly globals: GlobalOptions;
  readonly json: boolean;
  /** A fresh look: the time and the width of now. */
  look(): Look;
  /** The result: one JSON document with --json, else the lines. Called once per command. */
  result(document: unknown, lines: readonly string[]): void;
  /** Lines for people, on stderr. */
  note(lines: readonly string[]): void;
  /** Where the cluster is. @throws Fault USAGE, NOT_FOUND, CONFIG_* */
  location(): Promise<ClusterLocation>;
  /** A client for reading. */
  reader(): Promise<ApiClient>;
  /** A client that carries the token. */
  writer(): Promise<ApiClient>;
  /** A client for exactly this agent. */
  agentAt(url: string, purpose: "read" | "write"): Promise<ApiClient>;
}

/** How long a read of one agent may take. */
export const readTimeoutMs = 5000;

/** Puts the context of one command together. */
export function createContext(io: CliIo, command: Command, connect: Connect): CommandContext {
  let program = command;
  while (program.parent !== null) program = program.parent;
  const globals = command.optsWithGlobals<GlobalOptions>();
  let location: Promise<ClusterLocation> | null = null;
  const locate = (): Promise<ClusterLocation> => {
    location ??= import("./find-cluster.ts").then(({ findCluster }) => findCluster(globals, io));
    return location;
  };
  const client = async (urls: readonly string[] | null, write: boolean): Promise<ApiClient> => {
    const found = await locate();
    return connect({
      urls: urls ?? found.urls,
      token: write ? await found.token() : null,
      caFile: found.caFile,
      timeoutMs: readTimeoutMs,
    });
  };
  const json = globals.json === true;
  return {
    io,
    program,
    globals,
    json,
    look: () => lookOf(io, globals),
    result: (document, lines) => {
      const text = json ? JSON.stringify(document, null, 2) : lines.join("\n");
      if (json || lines.length > 0) io.stdout.write(`${text}\n`);
    },
    note: (lines) => {
      if (lines.length > 0) io.stderr.write(`${lines.join("\n")}\n`);
    },
    location: locate,
    reader: () => client(null, false),
    writer: () => client(null, true),
    agentAt: (url, purpose) => client([url], purpose === "write"),
  };
}

/** The look of standard output. */
export function lookOf(io: CliIo, globals: GlobalOptions): Look {
  const colour = io.stdout.terminal && (io.env["NO_COLOR"] ?? "") === "" && globals.color !== false;
  return {
    nowMs: epochMs(io.clock.wall()) ?? 0,
    width: widthOf(io.stdout.columns),
    zone: globals.utc === true ? "utc" : "local",
    paint: createPaint(colour),
  };
}

/** Those of the terminal, but at least 60 (a narrower one wraps by itself); 100 where nobody says how many there are. */
function widthOf(columns: number | null): number {
  return columns === null || columns === 0 ? 100 : Math.min(200, Math.max(60, columns));
}

/**
 * Asks before a change. Returns null to go on, or the exit code when the user does not want to.
 * @throws Fault USAGE when there is nobody to ask and no --yes
 */
export async function declined(
  context: CommandContext,
  question: string,
  flags: ChangeFlags,
): Promise<number | null> {
  if (flags.yes === true) return null;
  if (!context.io.inputIsTerminal)
    throw new Fault("USAGE", "This changes the cluster and nobody can be asked", {
      detail: question,
      hint: "Add --yes to do it, or --dry-run to see what it would do.",
    });
  const answer = await context.io.ask(`${question} [y/N] `);
  return answer !== null && /^y(es)?$/i.test(answer.trim()) ? null : unchanged(context);
}

/**
 * As `declined`, for what destroys: the name of what it is done to is asked for, or must have been given.
 * @throws Fault USAGE when there is nobody to ask, and --yes or the name is missing
 */
export async function declinedByName(
  context: CommandContext,
  question: string,
  name: string,
  flags: ChangeFlags & { readonly given: { readonly option: string; readonly value: string | undefined } },
): Promise<number | null> {
  const { option, value } = flags.given;
  if (flags.yes === true && value === name) return null;
  if (flags.yes === true || !context.io.inputIsTerminal)
    throw new Fault("USAGE", flags.yes === true ? "--yes alone does not do this" : "Nobody can be asked", {
      detail: question,
      hint: `Say so with ${option} ${name} --yes; or add --dry-run to see what it would do.`,
    });
  const answer = await context.io.ask(`${question} Type ${name} to do it: `);
  return answer?.trim() === name ? null : unchanged(context);
}

function unchanged(context: CommandContext): number {
  context.note(["Nothing was changed."]);
  return exitCodes.failed;
}
