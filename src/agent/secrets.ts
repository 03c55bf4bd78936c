import { parseSecrets } from "../dcs/layout.ts";
import type { PostgresSecrets } from "../postgres/options.ts";
import type { Random } from "../system/random.ts";
import { Fault } from "../values/fault.ts";
import { Secret } from "../values/secret.ts";
import type { StateFiles } from "./state-files.ts";

const secretsFile = "secrets.json";

/** The cluster's generated secrets: the same on every node. */
export interface ClusterSecrets extends PostgresSecrets {
  readonly apiToken: Secret;
}

/**
 * The cluster's secrets: made once by the node that founds the cluster, shared through the DCS (whoever may write there
 * decides who leads anyway), and kept in `<state_dir>/secrets.json` with mode 0600.
 */
export class SecretStore {
  readonly #files: StateFiles;
  readonly #superuser: string;
  readonly #random: Random;
  #text: string | null;
  #writing: Promise<void> = Promise.resolve();

  private constructor(files: StateFiles, superuser: string, random: Random, text: string | null) {
    this.#files = files;
    this.#superuser = superuser;
    this.#random = random;
    this.#text = text;
  }

  /** The secrets as this node kept them. @throws Fault CONFIG_UNREADABLE */
  static async open(files: StateFiles, superuser: string, random: Random): Promise<SecretStore> {
    const text = await files.read(secretsFile).catch((thrown: unknown) => {
      throw new Fault(
        "CONFIG_UNREADABLE",
        `The secrets in ${secretsFile} of the state directory cannot be read.`,
        { cause: thrown },
      );
    });
    return new SecretStore(files, superuser, random, text);
  }

  /** The secrets, or null before the cluster has any. @throws Fault CONFIG_UNREADABLE when the file is damaged */
  current(): ClusterSecrets | null {
    if (this.#text === null) return null;
    const raw = parse(this.#text);
    const credential = (from: { username: string; password: string }): PostgresSecrets["superuser"] => ({
      user: from.username,
      password: new Secret(from.password),
    });
    return {
      superuser: credential(raw.superuser),
      replication: credential(raw.replication),
      rewind: credential(raw.rewind),
      apiToken: new Secret(raw.api.token),
    };
  }

  /** The secrets for use. @throws Fault POSTGRES_AUTHENTICATION before the cluster has any */
  required(): ClusterSecrets {
    const secrets = this.current();
    if (secrets !== null) return secrets;
    throw new Fault("POSTGRES_AUTHENTICATION", "This node does not know the cluster's passwords yet.", {
      hint: "They come from the DCS as soon as it answers.",
    });
  }

  /** The text to put into the DCS when the cluster has none: the local ones, else newly made ones. */
  offer(): string {
    if (this.#text !== null) return this.#text;
    const credential = (username: string): { username: string; password: string } => ({
      username,
      password: this.#random.secret(24),
    });
    return JSON.stringify({
      superuser: credential(this.#superuser),
      replication: credential("pgherd_replication"),
      rewind: credential("pgherd_rewind"),
      api: { token: this.#random.secret(32) },
    });
  }

  /** Takes over what the DCS says, if that makes sense (the status tells of it otherwise); returns whether it was new. */
  async adopt(text: string): Promise<boolean> {
    if (text === this.#text || !makesSense(text)) return false;
    this.#text = text;
    const write = this.#writing.then(() => this.#files.write(secretsFile, text));
    this.#writing = write.catch(() => undefined);
    await write;
    return true;
  }
}

function makesSense(text: string): boolean {
  try {
    parseSecrets(text);
    return true;
  } catch {
    return false;
  }
}

function parse(text: string): ReturnType<typeof parseSecrets> {
  try {
    return parseSecrets(text);
  } catch {
    // The cause is left out on purpose: a parser's message may quote what it read.
    throw new Fault(
      "CONFIG_UNREADABLE",
      `The secrets in ${secretsFile} of the state directory cannot be understood.`,
      {
        hint: "Restore the file from another node of the cluster.",
      },
    );
  }
}
