import { resolve } from "node:path";
import type { Log } from "./agent/context.ts";
import { tellServiceManager } from "./agent/service-watchdog.ts";
import { openStateFiles } from "./agent/state-files.ts";
import { startBackupApi } from "./api/backup/server.ts";
import { childrenOf } from "./backup/serve/child.ts";
import { BackupServer } from "./backup/serve/server.ts";
import { clusterOfAgents, clusterOfHosts } from "./backup/serve/servers.ts";
import { serverToken } from "./backup/serve/token.ts";
import { ownVersion } from "./cli/own-version.ts";
import type { BackupSettings } from "./config/backup-config.ts";
import { loadBackupSettings } from "./config/backup-file.ts";
import { startDaemon } from "./daemon-start.ts";
import { openDcs } from "./dcs/open.ts";
import { programFile } from "./program-file.ts";
import { createLog } from "./program-log.ts";
import { systemClock } from "./system/clock.ts";
import { systemRandom } from "./system/random.ts";
import { systemTimers } from "./system/timers.ts";

const usage = "usage: pgherd backup serve --config BACKUP.yml\n";

/** `pgherd backup serve --config FILE`: runs until it is told to end. @returns the exit code */
export function backupMain(argv: readonly string[]): Promise<number> {
  return startDaemon(argv, usage, { config: { type: "string", short: "c" } }, runBackup);
}

async function runBackup(file: string): Promise<number> {
  const told = endSignal();
  const settings = await loadBackupSettings(file, process.env);
  const log = createLog(settings.log, { server: settings.name });
  await openStateFiles(settings.stateDir);
  const token = await serverToken(settings.api.tokenFile, systemRandom);
  const server = createServer(settings, resolve(file), log);
  const { listen, port, tls } = settings.api;
  const endTelling = tellServiceManager(process.env, systemTimers);
  try {
    // The address first: a second server of this file ends here, before its receivers write where those of the first do.
    const api = await startBackupApi({
      service: server,
      listen,
      port,
      tls,
      token,
      tokenOf: (cluster) => server.tokenOf(cluster),
      log,
    });
    try {
      await server.start();
      log("info", "backup.started", {
        pid: process.pid,
        http: api.url,
        clusters: server.clusters().join(", "),
      });
      process.on("SIGHUP", () => {
        api.reloadTls();
        log("info", "backup.reloaded", { what: "TLS files; the rest is read at the next start" });
      });
      await told;
      log("info", "backup.stopping");
    } finally {
      await api.close();
    }
    return 0;
  } finally {
    endTelling();
    await server.stop();
  }
}

function createServer(settings: BackupSettings, configFile: string, log: Log): BackupServer {
  return new BackupServer({
    settings,
    configFile,
    version: ownVersion(),
    startChild: childrenOf([process.execPath, programFile()]),
    serversOf: async (cluster) => {
      const { dcs, namespace } = cluster;
      if (dcs === null) return clusterOfHosts(cluster);
      const store = await openDcs(
        { cluster: cluster.cluster, namespace, dcs },
        {
          clock: systemClock,
          timers: systemTimers,
          logger: { info: (fields, text) => log("debug", "dcs", { ...fields, text }) },
        },
      );
      return clusterOfAgents(cluster, store, systemClock, log);
    },
    clock: systemClock,
    timers: systemTimers,
    random: systemRandom,
    log,
  });
}

/** Resolves when the process is told to end; a second signal ends it at once. */
function endSignal(): Promise<void> {
  let told = false;
  return new Promise((end) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const)
      process.on(signal, () => {
        if (told) process.exit(1);
        told = true;
        end();
      });
  });
}
