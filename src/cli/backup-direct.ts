import type { BackupReader } from "../api/backup/client.ts";
import { fromWire, toWire, type Wire } from "../api/wire.ts";
import { openCatalogue } from "../backup/catalogue/catalogue.ts";
import { openSettledRepository } from "../backup/open.ts";
import { liveDirectory, readLive } from "../backup/receiver/live-directory.ts";
import { ServedCluster } from "../backup/serve/cluster.ts";
import { openArchive } from "../backup/wal/open-archive.ts";
import type { BackupSettings } from "../config/backup-config.ts";
import type { Clock } from "../system/clock.ts";
import type { Timers } from "../system/timers.ts";
import { Fault } from "../values/fault.ts";
import { ownVersion } from "./own-version.ts";

/** Reads of a repository without its server. @throws Fault BACKUP_*, CONFIG_UNREADABLE */
export async function openDirectReader(
  settings: BackupSettings,
  name: string,
  ports: { readonly clock: Clock; readonly timers: Timers },
): Promise<BackupReader> {
  const own = settings.clusters.find((each) => each.cluster === name);
  if (own === undefined) throw new Fault("NOT_FOUND", `The backup file has no cluster ${name}`);
  const repository = await openSettledRepository(settings.repository, ports);
  const log = (): void => undefined;
  const directory = liveDirectory(settings, name);
  const [archive, catalogue] = await Promise.all([
    openArchive({
      repository,
      cluster: name,
      clock: ports.clock,
      log,
      live: (segment) => readLive(directory, segment),
    }),
    openCatalogue({ repository, cluster: name, log }),
  ]);
  const noServer = (): never => {
    throw new Fault("API_UNREACHABLE", "This needs the backup server, and it does not run", {
      hint: "Start it: pgherd backup serve --config BACKUP.yml",
    });
  };
  const cluster = new ServedCluster({
    settings: own,
    servers: {
      leader: () => null,
      token: () => null,
      receivers: () => [],
      positions: () => [],
      onPrimary: noServer,
      close: () => Promise.resolve(),
    },
    receiver: null,
    opened: () => ({ repository, archive, catalogue }),
    problem: () => null,
    jobs: () => [],
    start: noServer,
    schedules: () => [],
    freeBytes: () => null,
    onGap: () => undefined,
    damage: () => [],
    ...ports,
    log,
  });
  await cluster.review();
  const wire = <T>(value: T): Promise<Wire<T>> => Promise.resolve(fromWire(toWire(value)) as Wire<T>);
  return {
    source: repository.store.description,
    overview: () =>
      wire({
        server: {
          name: settings.name,
          version: ownVersion(),
          startedAt: ports.clock.wall(),
          repository: repository.store.description,
          encrypted: repository.encrypted,
          apiUrl: settings.api.url,
        },
        clusters: [cluster.status()],
        jobs: [],
      }),
    status: () => wire(cluster.status()),
    backups: () => wire(cluster.backups()),
    backup: (id) => wire(cluster.backup(id)),
    wal: () => wire(cluster.wal()),
    segments: (limit) => wire([...cluster.segments()].slice(-limit)),
    drills: () => wire(cluster.drills()),
    forecast: () => wire(cluster.forecast()),
    check: () => wire(cluster.check()),
    expired: () => wire(cluster.expired()),
    close: async () => {
      await archive.close();
      await repository.close();
    },
  };
}
