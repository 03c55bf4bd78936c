import type { StateFiles } from "../agent/state-files.ts";
import type { Log } from "../agent/context.ts";
import { toFault } from "../values/fault.ts";
import { parseToken, type FencingToken } from "../values/names.ts";

const file = "highest-token.json";

/**
 * The highest token the store ever showed, kept over restarts: after a store was put back from an old backup nothing is routed
 * to a lower one. It belongs to the data of one cluster: another system identifier begins anew.
 */
export class TokenMemory {
  readonly #files: StateFiles;
  readonly #log: Log;
  #highest: FencingToken | null = null;
  #kept: FencingToken | null = null;
  #identifier: string | null = null;
  #writing: Promise<void> = Promise.resolve();

  private constructor(files: StateFiles, log: Log) {
    this.#files = files;
    this.#log = log;
  }

  static async open(files: StateFiles, log: Log): Promise<TokenMemory> {
    const memory = new TokenMemory(files, log);
    const text = await files.read(file);
    const found = text === null ? null : parsed(text);
    memory.#highest = memory.#kept = found?.token ?? null;
    memory.#identifier = found?.identifier ?? null;
    return memory;
  }

  get highest(): FencingToken | null {
    return this.#highest;
  }

  /** Whether the token is on disk: only then may clients be sent where it leads. */
  holds(token: FencingToken): boolean {
    return this.#kept !== null && this.#kept >= token;
  }

  /** A token was seen in the store of the cluster with this system identifier (null = not told yet). */
  see(token: FencingToken, identifier: string | null, onKept: () => void): void {
    const isOther = identifier !== null && this.#identifier !== null && identifier !== this.#identifier;
    if (!isOther && this.#highest !== null && token <= this.#highest && this.holds(token)) return;
    if (isOther) {
      this.#log("warn", "token.other_cluster", { before: this.#identifier, now: identifier, token });
      this.#highest = this.#kept = null;
    }
    if (this.#highest === token && !isOther) return; // on its way to the disk
    if (this.#highest !== null && token < this.#highest) return;
    this.#identifier = identifier ?? this.#identifier;
    this.#highest = token;
    const text = JSON.stringify({ token, system_identifier: this.#identifier });
    this.#writing = this.#writing
      .then(() => this.#files.write(file, text))
      // A disk that takes nothing does not keep clients from the primary: what is in memory counts until the next start.
      .catch((thrown: unknown) => this.#log("error", "token.not_kept", { ...toFault(thrown).report() }))
      .then(() => {
        if (this.#highest !== null && token <= this.#highest) this.#kept = token;
        onKept();
      });
  }

  /** Resolves when all that was seen is on disk. */
  flush(): Promise<void> {
    return this.#writing;
  }
}

function parsed(text: string): { token: FencingToken; identifier: string | null } | null {
  try {
    const value = JSON.parse(text) as { readonly token?: unknown; readonly system_identifier?: unknown };
    const token = typeof value.token === "number" ? parseToken(value.token) : undefined;
    const identifier = typeof value.system_identifier === "string" ? value.system_identifier : null;
    return token === undefined ? null : { token, identifier };
  } catch {
    return null;
  }
}
