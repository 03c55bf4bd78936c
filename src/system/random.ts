import { randomBytes, randomUUID } from "node:crypto";

/** Where randomness comes from. */
export interface Random {
  /** A number in [0, 1), for spreading retries. */
  fraction(): number;
  /** A new unique identifier. */
  uuid(): string;
  /** A secret of `bytes` random bytes in base64url. */
  secret(bytes: number): string;
}

/** The randomness of the machine. */
export const systemRandom: Random = {
  fraction: () => Math.random(),
  uuid: () => randomUUID(),
  secret: (bytes) => randomBytes(bytes).toString("base64url"),
};
