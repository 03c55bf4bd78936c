import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { BackupClient, type BackupReader } from "../api/backup/client.ts";
import type { BackupSettings } from "../config/backup-config.ts";
import { Fault, toFault } from "../values/fault.ts";
import { Secret } from "../values/secret.ts";
import type { CommandContext } from "./context.ts";
import { readTokenFile } from "./node-access.ts";
import { tokenFrom } from "./token.ts";

/** What every command about backups takes. */
export interface BackupFlags {
  readonly server?: string;
  readonly cluster?: string;
}

/** Where the backups of a cluster are. */
export interface BackupLocation {
  /** The server's API; null = only the repository is known. */
  readonly url: string | null;
  readonly cluster: string;
  readonly caFile: string | null;
  /** The backup file of this host that was named; null = none was. */
  readonly settings: BackupSettings | null;
  readonly configFile: string | null;
  /** null = none is to be found. */
  token(): Promise<Secret | null>;
}

/**
 * Finds a backup server: --server or PGHERD_BACKUP names it, or a backup file given with --config, else the cluster that --config,
 * --api, --dir, PGHERD_API or the last demo leads to says where its receiver is.
 * @throws Fault USAGE, NOT_FOUND, CONFIG_*, API_UNREACHABLE
 */
export async function locateBackups(context: CommandContext, flags: BackupFlags): Promise<BackupLocation> {
  const { globals, io } = context;
  if (globals.config !== undefined) {
    const file = resolve(io.directory, globals.config);
    if (await isBackupFile(file)) return fromBackupFile(file, context, flags);
  }
  const ofDemo = await demoBackupFile(context);
  if (ofDemo !== null && flags.server === undefined) return fromBackupFile(ofDemo, context, flags);
  const given = flags.server ?? io.env["PGHERD_BACKUP"] ?? "";
  if (given !== "") return fromUrl(urlOf(given), context, flags);
  return fromCluster(context, flags);
}

/** A client for the server. @throws Fault as locateBackups */
export async function backupClient(
  context: CommandContext,
  flags: BackupFlags,
  purpose: "read" | "write",
): Promise<BackupClient> {
  return clientOf(await locateBackups(context, flags), purpose);
}

/** A client for the server of a location. @throws Fault NOT_FOUND */
export async function clientOf(location: BackupLocation, purpose: "read" | "write"): Promise<BackupClient> {
  const { url, cluster, caFile } = location;
  if (url === null) throw new Fault("NOT_FOUND", "No backup server is known");
  return new BackupClient({
    url,
    cluster,
    caFile,
    token: purpose === "write" ? await location.token() : null,
  });
}

/**
 * Reads of the server, or, on its own host and while it is down, of the repository itself.
 * @throws Fault as locateBackups
 */
export async function backupReader(context: CommandContext, flags: BackupFlags): Promise<BackupReader> {
  const location = await locateBackups(context, flags);
  if (location.settings === null) return clientOf(location, "read");
  const client = await clientOf(location, "read");
  try {
    await client.overview();
    return client;
  } catch (thrown) {
    const fault = toFault(thrown);
    if (fault.code !== "API_UNREACHABLE") throw thrown;
    const { openDirectReader } = await import("./backup-direct.ts");
    context.note([`? The backup server does not run; this is read from the repository itself.`]);
    return openDirectReader(location.settings, location.cluster, io(context));
  }
}

function io(context: CommandContext): Pick<CommandContext["io"], "clock" | "timers"> {
  return context.io;
}

/** The backup file of the demo that is meant; null = none is, or it has no backup server. */
async function demoBackupFile({ globals, io: { directory, env } }: CommandContext): Promise<string | null> {
  const elsewhere = globals.api ?? globals.config ?? env["PGHERD_API"] ?? env["PGHERD_BACKUP"];
  if (globals.dir === undefined && elsewhere !== undefined && elsewhere !== "") return null;
  const { lastDemoDir } = await import("../demo/pointer.ts");
  const dir = globals.dir === undefined ? await lastDemoDir(env) : resolve(directory, globals.dir);
  if (dir === null) return null;
  try {
    const demo = JSON.parse(await readFile(`${dir}/demo.json`, "utf8")) as {
      readonly backup?: { readonly config?: string } | null;
    };
    return demo.backup?.config ?? null;
  } catch {
    return null; // whoever looks for the cluster there says why
  }
}

/** What agents are asked for goes by the cluster, and a backup file does not lead to it. @throws Fault USAGE */
export async function refuseBackupFile({ globals, io }: CommandContext): Promise<void> {
  if (globals.config === undefined || !(await isBackupFile(resolve(io.directory, globals.config)))) return;
  throw new Fault("USAGE", `${globals.config} is the file of a backup server: this is asked of the agents`, {
    hint: "Name one of them with --api http://NODE:8008, or a node file with --config.",
  });
}

/** A backup file names a repository; a node file has a data directory. */
async function isBackupFile(file: string): Promise<boolean> {
  try {
    return /^repository\s*:/m.test(await readFile(file, "utf8"));
  } catch {
    return false; // whoever reads it next says why it cannot be read
  }
}

async function fromBackupFile(
  file: string,
  context: CommandContext,
  flags: BackupFlags,
): Promise<BackupLocation> {
  const { loadBackupSettings } = await import("../config/backup-file.ts");
  const settings = await loadBackupSettings(file, context.io.env);
  const names = settings.clusters.map((each) => each.cluster);
  const { api } = settings;
  // A certificate vouches for the name others use, not for loopback.
  const url =
    flags.server === undefined
      ? api.tls === null
        ? `http://${localHost(api.listen)}:${api.port}`
        : api.url
      : urlOf(flags.server);
  return {
    url,
    cluster: clusterAmong(names, flags),
    caFile:
      context.globals.caFile === undefined ? null : resolve(context.io.directory, context.globals.caFile),
    settings,
    configFile: file,
    token: async () => (await givenToken(context)) ?? (await ownToken(api.tokenFile)),
  };
}

async function fromUrl(url: string, context: CommandContext, flags: BackupFlags): Promise<BackupLocation> {
  const caFile =
    context.globals.caFile === undefined ? null : resolve(context.io.directory, context.globals.caFile);
  const token = async (): Promise<Secret | null> =>
    (await givenToken(context)) ?? (await clusterToken(context));
  const cluster = flags.cluster ?? (await onlyCluster(url, caFile));
  return { url, cluster, caFile, settings: null, configFile: null, token };
}

/** Any server tells its clusters: with one, nobody needs to name it. */
async function onlyCluster(url: string, caFile: string | null): Promise<string> {
  const { clusters } = await new BackupClient({ url, cluster: "", token: null, caFile }).overview();
  return clusterAmong(
    clusters.map((each) => each.cluster),
    {},
  );
}

async function fromCluster(context: CommandContext, flags: BackupFlags): Promise<BackupLocation> {
  const status = await (await context.reader()).status();
  const urls = status.archives.flatMap((archive) => (archive.api_url == null ? [] : [archive.api_url]));
  const [url] = urls;
  if (url === undefined)
    throw new Fault("NOT_FOUND", `The cluster ${status.cluster} has no backup server`, {
      detail:
        status.archives.length === 0
          ? "No receiver of WAL has a record in the DCS."
          : "Its receiver names no API.",
      hint: "Start one (pgherd backup serve --config BACKUP.yml), or name one with --server URL.",
    });
  const location = await context.location();
  return {
    url,
    cluster: flags.cluster ?? status.cluster,
    caFile: location.caFile,
    settings: null,
    configFile: null,
    token: () => location.token(),
  };
}

function clusterAmong(names: readonly string[], flags: BackupFlags): string {
  if (flags.cluster !== undefined) {
    if (names.includes(flags.cluster)) return flags.cluster;
    throw new Fault("USAGE", `The backup server has no cluster ${flags.cluster}`, {
      hint: `It has ${names.join(", ")}.`,
    });
  }
  const [only] = names;
  if (only !== undefined && names.length === 1) return only;
  throw new Fault("USAGE", "Which cluster?", { hint: `Name one with --cluster: ${names.join(", ")}.` });
}

/** The token of --token-file or PGHERD_TOKEN; null when neither is given. */
async function givenToken({ globals, io: { directory, env } }: CommandContext): Promise<Secret | null> {
  if (globals.tokenFile !== undefined) return ownToken(resolve(directory, globals.tokenFile));
  const text = env["PGHERD_TOKEN"] ?? "";
  return text === "" ? null : new Secret(text);
}

/** A token in a file of its own, or in the secrets of a node. */
async function ownToken(file: string): Promise<Secret | null> {
  try {
    const text = await readFile(file, "utf8");
    return text.trimStart().startsWith("{") ? tokenFrom(text, file) : new Secret(text.trim());
  } catch (thrown) {
    if (thrown instanceof Fault) throw thrown;
    return readTokenFile(file); // says in its own words why it cannot be read
  }
}

/** The cluster's own token, where the command is run on one of its nodes; null = not there. */
async function clusterToken(context: CommandContext): Promise<Secret | null> {
  try {
    return await (await context.location()).token();
  } catch {
    return null;
  }
}

function urlOf(text: string): string {
  const address = /^https?:\/\//.test(text) ? text : `http://${text}`;
  if (!URL.canParse(address))
    throw new Fault("USAGE", `${text} is not a URL`, { hint: "For example http://10.0.0.20:8009" });
  return new URL(address).href.replace(/\/$/, "");
}

function localHost(listen: string): string {
  if (listen === "0.0.0.0" || listen === "*") return "127.0.0.1";
  if (listen === "::") return "[::1]";
  return listen.includes(":") ? `[${listen}]` : listen;
}
