import { readFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { createPeers } from "./api/peers.ts";
import { AgentsSource } from "./backup/receiver/agents-source.ts";
import { HostsSource } from "./backup/receiver/hosts-source.ts";
import { liveDirectory } from "./backup/receiver/live-directory.ts";
import { runReceiver, type ReceiverChannel } from "./backup/receiver/process.ts";
import { openKept } from "./backup/member/kept.ts";
import { ReceiverMember } from "./backup/member/receiver-member.ts";
import { ownVersion } from "./cli/own-version.ts";
import type { BackupClusterSettings } from "./config/backup-config.ts";
import { loadBackupSettings } from "./config/backup-file.ts";
import { startDaemon } from "./daemon-start.ts";
import { keys, parseSecrets } from "./dcs/layout.ts";
import { openDcs } from "./dcs/open.ts";
import { createLog } from "./program-log.ts";
import { systemClock } from "./system/clock.ts";
import { systemRandom } from "./system/random.ts";
import { systemTimers } from "./system/timers.ts";
import { Fault, toFault } from "./values/fault.ts";
import type { NodeName } from "./values/names.ts";
import { Secret } from "./values/secret.ts";

const usage = "pgherd backup-receiver is started by a backup server: --config BACKUP.yml --cluster NAME\n";

/** `pgherd backup-receiver --config FILE --cluster NAME`: a child of `pgherd backup serve`. @returns the exit code */
export function backupReceiverMain(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({ args: [...argv], options: { cluster: { type: "string" } }, strict: false });
  return startDaemon(argv, usage, { cluster: { type: "string" } }, (file) =>
    run(file, String(values["cluster"])),
  );
}

async function run(file: string, name: string): Promise<number> {
  const channel = parentChannel();
  // The stop of the whole service goes to the daemon, which says when: commits may still wait for what is being received.
  for (const signal of ["SIGHUP", "SIGINT", "SIGTERM"] as const) process.on(signal, () => undefined);
  try {
    const settings = await loadBackupSettings(file, process.env);
    const cluster = settings.clusters.find((each) => each.cluster === name);
    if (cluster === undefined) throw new Fault("CONFIG_INVALID", `The backup file has no cluster ${name}.`);
    const log = createLog(settings.log, { cluster: name, part: "receiver" });
    const liveDir = liveDirectory(settings, name);
    const ports = { timers: systemTimers, random: systemRandom };
    const basics = { name: settings.name, connection: cluster.connection, ports };
    const shared = { clock: systemClock, timers: systemTimers, random: systemRandom, log };
    await runReceiver(
      {
        liveDir,
        channel,
        ...shared,
        source: async (receiving, facts) => {
          if (cluster.dcs === null) return new HostsSource({ ...basics, timers: systemTimers });
          const dcs = await openDcs(
            { ...cluster, dcs: cluster.dcs },
            {
              clock: systemClock,
              timers: systemTimers,
              logger: { info: (fields, text) => log("debug", "dcs", { ...fields, text }) },
            },
          );
          const member: ReceiverMember = new ReceiverMember(
            {
              name: settings.name as NodeName,
              version: ownVersion(),
              host: settings.address,
              apiUrl: settings.api.url,
              synchronous: true,
            },
            {
              ...shared,
              dcs,
              peers: createPeers(systemTimers, {
                token: () => apiToken(member),
                authorities: () => authoritiesOf(cluster),
              }),
              kept: await openKept(liveDir, systemRandom),
            },
            receiving,
          );
          member.open();
          return new AgentsSource(member, { ...basics, facts, close: () => dcs.close() });
        },
      },
      new AbortController().signal,
    );
    return 0;
  } catch (thrown) {
    channel.send({ kind: "failed", fault: toFault(thrown).report() });
    throw thrown;
  } finally {
    if (process.connected) process.disconnect();
  }
}

function apiToken(member: ReceiverMember): Secret | null {
  const text = member.entry(keys.secrets);
  try {
    return text === null ? null : new Secret(parseSecrets(text).api.token);
  } catch {
    return null;
  }
}

/** Agents are asked only whether they live; their certificates are of the authority the servers' are. */
async function authoritiesOf(cluster: BackupClusterSettings): Promise<string | null> {
  const { caFile } = cluster.connection.tls;
  return caFile === null ? null : readFile(caFile, "utf8");
}

/** The channel this process was started with. @throws Fault USAGE without one */
function parentChannel(): ReceiverChannel {
  if (process.send === undefined) throw new Fault("USAGE", usage.trim());
  return {
    send: (report) => {
      if (process.connected) process.send?.(report, () => undefined);
    },
    onMessage: (listener) => void process.on("message", listener),
    onClose: (listener) => {
      process.on("disconnect", listener);
      if (!process.connected) listener();
    },
  };
}
