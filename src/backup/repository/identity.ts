import { createHmac, hash, hkdfSync, randomBytes, timingSafeEqual } from "node:crypto";
import { z } from "zod";
import { Fault } from "../../values/fault.ts";
import type { WallTime } from "../../values/time.ts";
import type { ObjectStore } from "./object-store.ts";
import { hashNames } from "./seal.ts";
import type { HashName } from "./seal.ts";

/** The same text twice: without it an encrypted repository cannot be read at all. */
const identityKeys = ["repository.json", "repository-copy.json"] as const;

const identitySchema = z.strictObject({
  format: z.literal(1),
  id: z.uuid(),
  createdAt: z.iso.datetime(),
  /** Of pages and of checksums, the first 16 bytes. */
  hash: z.enum(hashNames),
  encryption: z
    .strictObject({
      cipher: z.literal("aes-256-gcm"),
      /** base64; for HKDF. */
      salt: z.base64(),
      /** HMAC of a fixed text: tells a wrong key from damage. */
      check: z.string().regex(/^[0-9a-f]{64}$/),
    })
    .nullable(),
});

/** `repository.json`: what must be known before anything else can be read. */
export type Identity = z.infer<typeof identitySchema>;

/** A key as its file has it: 64 hexadecimal digits, or base64 of 32 bytes. @throws Fault BACKUP_KEY_WRONG */
export function parseKey(text: string): Buffer {
  const trimmed = text.trim();
  const key = /^[0-9a-fA-F]{64}$/.test(trimmed)
    ? Buffer.from(trimmed, "hex")
    : Buffer.from(trimmed, "base64");
  if (key.length !== 32)
    throw new Fault("BACKUP_KEY_WRONG", "The key file does not hold a key", {
      detail: "A key is 64 hexadecimal digits, or 32 bytes in base64.",
      hint: "Make one with: openssl rand -hex 32",
    });
  return key;
}

/** Makes the identity of a new repository. @throws Fault BACKUP_REPOSITORY_INVALID when there is one */
export async function createIdentity(
  store: ObjectStore,
  key: Buffer | null,
  createdAt: WallTime,
  hashName: HashName = fasterHash(),
): Promise<Identity> {
  const salt = randomBytes(32);
  const identity: Identity = {
    format: 1,
    id: crypto.randomUUID(),
    createdAt,
    hash: hashName,
    encryption:
      key === null
        ? null
        : {
            cipher: "aes-256-gcm",
            salt: salt.toString("base64"),
            check: checkOf(derive(key, salt)),
          },
  };
  const data = Buffer.from(`${JSON.stringify(identity, null, 2)}\n`);
  const [first, second] = identityKeys;
  if ((await store.put(first, [data], { ifAbsent: true })) === "exists")
    throw new Fault("BACKUP_REPOSITORY_INVALID", `There is a repository in ${store.description} already`);
  await store.put(second, [data]);
  return identity;
}

/**
 * Reads it; the copy when the first is damaged or gone.
 * @throws Fault BACKUP_NOT_FOUND when there is none, BACKUP_REPOSITORY_INVALID, BACKUP_STORE_*
 */
export async function readIdentity(store: ObjectStore): Promise<Identity> {
  let problem: string | null = null;
  for (const name of identityKeys) {
    const data = await store.get(name);
    if (data === null) continue;
    try {
      return identitySchema.parse(JSON.parse(data.toString()));
    } catch (error) {
      problem = `${name}: ${error instanceof Error ? error.message : String(error)}`;
    }
  }
  if (problem === null)
    throw new Fault("BACKUP_NOT_FOUND", `There is no repository in ${store.description}`, {
      hint: "Is the file system mounted, the bucket the right one? A new repository is made by `pgherd backup init`.",
    });
  throw new Fault(
    "BACKUP_REPOSITORY_INVALID",
    `The repository in ${store.description} cannot be understood`,
    {
      detail: problem,
    },
  );
}

/** The two objects compared; what is wrong with them, for people. */
export async function identityProblems(store: ObjectStore): Promise<{ key: string; detail: string }[]> {
  const texts = await Promise.all(identityKeys.map((name) => store.get(name)));
  const first = texts[0]?.toString();
  return identityKeys.flatMap((key, index) => {
    const text = texts[index]?.toString();
    if (text === undefined) return [{ key, detail: "the object is missing" }];
    try {
      identitySchema.parse(JSON.parse(text));
    } catch {
      return [{ key, detail: "it cannot be understood" }];
    }
    return index > 0 && first !== undefined && text !== first
      ? [{ key, detail: "the two copies differ" }]
      : [];
  });
}

/** The key that encrypts; null for a repository without. @throws Fault BACKUP_KEY_WRONG */
export function unlock(identity: Identity, key: Buffer | null): Buffer | null {
  if (identity.encryption === null) return null;
  if (key === null)
    throw new Fault("BACKUP_KEY_WRONG", "The repository is encrypted and no key is configured");
  const derived = derive(key, Buffer.from(identity.encryption.salt, "base64"));
  const check = Buffer.from(identity.encryption.check, "hex");
  if (!timingSafeEqual(Buffer.from(checkOf(derived), "hex"), check))
    throw new Fault("BACKUP_KEY_WRONG", "The key is not the one of this repository");
  return derived;
}

function derive(key: Buffer, salt: Buffer): Buffer {
  return Buffer.from(hkdfSync("sha256", key, salt, "pgherd repository", 32));
}

function checkOf(derived: Buffer): string {
  return createHmac("sha256", derived).update("pgherd repository key").digest("hex");
}

/** With the processor's own instructions SHA-256 is by far faster, without them BLAKE2b. */
function fasterHash(): HashName {
  const page = randomBytes(65_536);
  const best = { name: "sha256" as HashName, time: Number.POSITIVE_INFINITY };
  for (const name of hashNames)
    for (let round = 0; round < 5; round++) {
      const before = process.hrtime.bigint();
      hash(name, page, "buffer");
      const time = Number(process.hrtime.bigint() - before);
      if (time < best.time) Object.assign(best, { name, time });
    }
  return best.name;
}
