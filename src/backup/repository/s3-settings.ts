import { readFile } from "node:fs/promises";
import type { Timers } from "../../system/timers.ts";
import { Fault } from "../../values/fault.ts";
import { S3Store } from "./s3-store.ts";

/** Where the bucket is, as the backup file has it. */
interface S3Place {
  readonly bucket: string;
  readonly prefix: string;
  readonly region: string;
  readonly endpoint: string | null;
  readonly pathStyle: boolean;
  /** In the form of `~/.aws/credentials`; null = AWS_ACCESS_KEY_ID and its like in the environment. */
  readonly credentialsFile: string | null;
  readonly caFile: string | null;
}

type Credentials = { accessKeyId: string; secretAccessKey: string; sessionToken: string | null };

/** @throws Fault CONFIG_UNREADABLE, CONFIG_INVALID */
export async function openS3Store(
  place: S3Place,
  env: Readonly<Record<string, string | undefined>>,
  timers: Timers,
): Promise<S3Store> {
  const credentials =
    place.credentialsFile === null
      ? fromNames(env, "the environment", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
      : parseCredentials(await text(place.credentialsFile), place.credentialsFile);
  const ca = place.caFile === null ? null : await text(place.caFile);
  const { bucket, prefix, region, endpoint, pathStyle } = place;
  return new S3Store({ bucket, prefix, region, endpoint, pathStyle, ca, ...credentials }, timers);
}

/** `name = value` lines; sections and comments are skipped, the first value of a name counts. */
function parseCredentials(content: string, path: string): Credentials {
  const values: Record<string, string> = {};
  for (const line of content.split("\n")) {
    const [, name, value] = /^\s*([a-z_]+)\s*=\s*(\S+)\s*$/.exec(line) ?? [];
    if (name !== undefined && value !== undefined) values[name] ??= value;
  }
  return fromNames(values, path, "aws_access_key_id", "aws_secret_access_key", "aws_session_token");
}

function fromNames(
  values: Readonly<Record<string, string | undefined>>,
  place: string,
  id: string,
  secret: string,
  session: string,
): Credentials {
  const accessKeyId = values[id];
  const secretAccessKey = values[secret];
  if (accessKeyId === undefined || secretAccessKey === undefined)
    throw new Fault("CONFIG_INVALID", "The credentials of the bucket are missing", {
      detail: `${id} and ${secret} are to be in ${place}.`,
    });
  return { accessKeyId, secretAccessKey, sessionToken: values[session] ?? null };
}

async function text(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw new Fault("CONFIG_UNREADABLE", `${path} cannot be read`, {
      detail: error instanceof Error ? error.message : String(error),
      cause: error,
    });
  }
}
