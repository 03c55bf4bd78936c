import { join } from "node:path";
import { openHba, renderHba, renderIdent, renderPassfile } from "./access.ts";
import { renderConfiguration, stripAutoConf } from "./configuration.ts";
import { readIfPresent, readJson, removeDurably, writeDurably } from "./durable-file.ts";
import type { PostgresSettings, Upstream } from "./instance.ts";
import type { Installation } from "./options.ts";
import { doubtSynchronous } from "./synchronous-record.ts";

/**
 * Writes every generated file: configuration, access rules, passfiles. Without an upstream the WAL receiver's password is
 * taken away too, so that nothing can receive (F2).
 */
export async function writeGeneratedFiles(
  at: Installation,
  major: number,
  settings: PostgresSettings,
  upstream: Upstream | null,
): Promise<void> {
  const own = {
    hba: await readIfPresent(join(at.configDir, "pg_hba.conf")),
    ident: await readIfPresent(join(at.configDir, "pg_ident.conf")),
  };
  await setUpstream(at, upstream);
  await doubtSynchronous(at, settings.synchronousStandbyNames);
  await writeIfChanged(at.files.configuration, renderConfiguration(at, settings, upstream, major));
  await writeIfChanged(at.files.hba, renderHba(at, settings, own, major));
  await writeIfChanged(at.files.ident, renderIdent(at, own, major));
  await writeToolPassfile(at);
  await cleanAutoConf(at);
}

/** Writes the passwords the tools need. */
export async function writeToolPassfile(at: Installation): Promise<void> {
  const { replication, rewind } = at.secrets();
  await writeIfChanged(at.files.toolPassfile, renderPassfile([replication, rewind]));
}

/** The upstream the generated configuration names; it outlives the agent. */
export async function currentUpstream(at: Installation): Promise<Upstream | null> {
  const { host, port, slot, applicationName } = (await readJson(at.files.upstream)) ?? {};
  if (typeof host !== "string" || typeof port !== "number" || typeof applicationName !== "string")
    return null;
  return { host, port, slot: typeof slot === "string" ? slot : null, applicationName };
}

/** Gives a data directory made here the access rules of a new cluster, so that its copies have them too. */
export async function writeOpenHba(dataDir: string): Promise<void> {
  await writeDurably(join(dataDir, "pg_hba.conf"), `${openHba.join("\n")}\n`);
}

async function setUpstream(at: Installation, upstream: Upstream | null): Promise<void> {
  if (upstream === null) {
    await removeDurably(at.files.upstream);
    await removeDurably(at.files.receiverPassfile);
    return;
  }
  await writeIfChanged(at.files.upstream, JSON.stringify(upstream));
  // For this upstream alone: a startup process that is late to read its configuration must not reach the last one with it (F2).
  await writeIfChanged(at.files.receiverPassfile, renderPassfile([at.secrets().replication], upstream));
}

async function writeIfChanged(path: string, content: string): Promise<void> {
  if ((await readIfPresent(path)) !== content) await writeDurably(path, content);
}

async function cleanAutoConf(at: Installation): Promise<void> {
  const path = join(at.dataDir, "postgresql.auto.conf");
  const text = await readIfPresent(path);
  if (text === null) return;
  const cleaned = stripAutoConf(text);
  if (cleaned === text) return;
  await writeDurably(join(at.stateDir, "postgresql.auto.conf.backup"), text);
  await writeDurably(path, cleaned);
}
