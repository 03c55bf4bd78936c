import { z } from "zod";
import type { JobRequest } from "../../backup/base/job-protocol.ts";
import type { BackupService } from "../../backup/service.ts";
import { jsonReply } from "../exchange.ts";
import { toWire } from "../wire.ts";
import { byteRoutes } from "./bytes.ts";
import { clusterIn, shaped, type BackupRequest, type BackupRoute } from "./route.ts";

const none = z.strictObject({});

/** A path that only reads, from memory. */
function reading(path: string, summary: string, read: (asked: BackupRequest) => unknown): BackupRoute {
  return {
    method: "GET",
    path,
    summary,
    guarded: false,
    handle: (asked) => jsonReply(200, toWire(read(asked))),
  };
}

/** What a server tells of itself and its clusters in one object. */
function overview(service: BackupService): unknown {
  const clusters = service.clusters().map((name) => service.cluster(name).status());
  return { server: service.server, clusters, jobs: service.jobs() };
}

const base = z.strictObject({
  kind: z.literal("base"),
  type: z.enum(["auto", "full"]).default("auto"),
  from: z
    .union([z.enum(["auto", "primary", "standby"]), z.strictObject({ node: z.string().min(1).max(63) })])
    .default("auto"),
  max_rate: z.int().min(32_768).nullable().default(null),
  checkpoint: z.enum(["fast", "spread"]).default("fast"),
  label: z
    .string()
    .regex(/^[^\0\n/]{1,63}$/u, "expected 1 to 63 characters without a slash")
    .nullable()
    .default(null),
});
const verify = z.strictObject({ kind: z.literal("verify"), backup: z.string().nullable().default(null) });
const drill = z.strictObject({ kind: z.literal("drill"), backup: z.string().nullable().default(null) });
const collect = z.strictObject({ kind: z.literal("collect"), dry_run: z.boolean().default(false) });
const jobSchema = z.discriminatedUnion("kind", [base, verify, drill, collect]);

/** A job as it is asked for over HTTP; ids may be written short. @throws Fault REQUEST_INVALID, BACKUP_NOT_FOUND */
async function jobIn(asked: BackupRequest): Promise<JobRequest> {
  const cluster = clusterIn(asked);
  const job = shaped(jobSchema, await asked.request.json());
  const reason = "asked for";
  const idOf = (name: string | null): string | null => (name === null ? null : cluster.backup(name).id);
  switch (job.kind) {
    case "base": {
      const { kind, type, from, checkpoint, label } = job;
      return { kind, cluster: cluster.name, type, from, maxRate: job.max_rate, checkpoint, label, reason };
    }
    case "verify":
    case "drill":
      return { kind: job.kind, cluster: cluster.name, backup: idOf(job.backup), reason };
    case "collect":
      return { kind: "collect", dryRun: job.dry_run };
  }
}

const list = "/v1/clusters/{cluster}";

/** The paths of a backup server: routing and the reference page come from here. */
export const backupRoutes: readonly BackupRoute[] = [
  reading("/v1/status", "The server and its clusters in one object", ({ service }) => overview(service)),
  reading("/v1/jobs", "Jobs that wait, run, or ended last", ({ service }) => service.jobs()),
  reading("/v1/jobs/{id}", "One job, with its progress", ({ service, names }) =>
    service.job(names["id"] ?? ""),
  ),
  {
    method: "DELETE",
    path: "/v1/jobs/{id}",
    summary: "Ends a job at its next safe point",
    guarded: true,
    handle: ({ service, names }) => jsonReply(200, toWire(service.cancel(names["id"] ?? ""))),
  },
  reading(`${list}/status`, "One cluster", (asked) => clusterIn(asked).status()),
  reading(`${list}/backups`, "Its backups, newest first", (asked) => clusterIn(asked).backups()),
  reading(
    `${list}/backups/{id}`,
    "One backup; an id, its beginning, a label, `latest` or `oldest`",
    (asked) => clusterIn(asked).backup(asked.names["id"] ?? ""),
  ),
  reading(`${list}/wal`, "Its WAL: timelines, what is unbroken, gaps, orphans", (asked) =>
    clusterIn(asked).wal(),
  ),
  reading(
    `${list}/wal/segments`,
    "The archived segments, by timeline; `?limit=` takes the last ones",
    (asked) => {
      const limit = shaped(z.object({ limit: z.coerce.number().int().min(1).max(100_000).default(1000) }), {
        ...Object.fromEntries(asked.request.query),
      }).limit;
      return [...clusterIn(asked).segments()].slice(-limit);
    },
  ),
  reading(`${list}/drills`, "Restores that were tried, newest first", (asked) => clusterIn(asked).drills()),
  reading(`${list}/forecast`, "When the repository will be full, how long a restore takes", (asked) =>
    clusterIn(asked).forecast(),
  ),
  reading(`${list}/check`, "What an operator should know, item by item", (asked) => clusterIn(asked).check()),
  reading(`${list}/expired`, "What retention would delete now", (asked) => clusterIn(asked).expired()),
  {
    method: "POST",
    path: `${list}/jobs`,
    summary: "Starts a job: `base`, `verify`, `drill`, `collect`",
    guarded: true,
    handle: async (asked) => jsonReply(202, toWire(clusterIn(asked).start(await jobIn(asked)))),
  },
  {
    method: "DELETE",
    path: `${list}/backups/{id}`,
    summary: "Deletes a backup; `?dry_run=true` only looks",
    guarded: true,
    handle: async (asked) => {
      const dryRun = asked.request.query.get("dry_run") === "true";
      return jsonReply(200, toWire(await clusterIn(asked).delete(asked.names["id"] ?? "", { dryRun })));
    },
  },
  {
    method: "PUT",
    path: `${list}/backups/{id}/keep`,
    summary: "Keeps a backup whatever retention says: `how` full, with the WAL after it, or standalone",
    guarded: true,
    handle: async (asked) => {
      const { how } = shaped(
        z.strictObject({ how: z.enum(["full", "standalone"]).default("full") }),
        await asked.request.json(),
      );
      return jsonReply(200, toWire(await clusterIn(asked).keep(asked.names["id"] ?? "", how)));
    },
  },
  {
    method: "DELETE",
    path: `${list}/backups/{id}/keep`,
    summary: "Leaves a backup to retention again",
    guarded: true,
    handle: async (asked) =>
      jsonReply(200, toWire(await clusterIn(asked).keep(asked.names["id"] ?? "", null))),
  },
  {
    method: "POST",
    path: `${list}/points`,
    summary: "Makes a named restore point",
    guarded: true,
    handle: async (asked) => {
      const { name } = shaped(z.strictObject({ name: z.string() }), await asked.request.json());
      return jsonReply(200, toWire(await clusterIn(asked).point(name)));
    },
  },
  {
    method: "POST",
    path: `${list}/wal/switch`,
    summary: "Ends the primary's segment; `archive_within_s` waits for it in the archive",
    guarded: true,
    handle: async (asked) => {
      const body = shaped(
        z.strictObject({ archive_within_s: z.number().min(0).max(3600).nullable().default(null) }),
        await asked.request.json(),
      );
      const archiveWithinMs = body.archive_within_s === null ? null : body.archive_within_s * 1000;
      return jsonReply(200, toWire(await clusterIn(asked).walSwitch({ archiveWithinMs })));
    },
  },
  {
    method: "POST",
    path: `${list}/wal/reset`,
    summary: "Gives up WAL that no server has any more: a gap is recorded, a backup started",
    guarded: true,
    handle: async (asked) => {
      shaped(none, await asked.request.json());
      await clusterIn(asked).walReset();
      return jsonReply(202, { reset: true });
    },
  },
  ...byteRoutes,
];
