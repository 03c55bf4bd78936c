import { backupEvents } from "../../config/backup-config.ts";
import type { BackupService } from "../../backup/service.ts";
import { backupMetrics } from "./metrics.ts";
import { backupRoutes } from "./routes.ts";

const eventMeanings: Readonly<Record<(typeof backupEvents)[number], string>> = {
  backup_started: "A base backup begins; a program with `required: true` that fails prevents it.",
  backup_done: "A base backup was copied; BACKUP, BYTES, STORED_BYTES.",
  backup_failed:
    "A base backup failed; CODE. One that nobody asked for is tried again after 30 s, 2 min and 10 min.",
  drill_passed: "A restore worked; BACKUP.",
  drill_failed: "A restore did not work; BACKUP, CODE.",
  verify_passed: "Everything that is stored is whole.",
  verify_failed: "Something stored is damaged; PROBLEMS.",
  wal_gap: "WAL is missing for good; TIMELINE, START_LSN, END_LSN. A base backup follows by itself.",
  wal_stopped: "No WAL comes any more; STATE, CODE.",
  wal_resumed: "WAL comes again; SOURCE.",
};

/** The text of docs/reference/backup-api.md. */
export function backupApiText(): string {
  const paths = backupRoutes.map(
    ({ method, path, summary, guarded }) =>
      [method, `\`${path}\``, guarded ? "yes" : "", `${summary}.`] as const,
  );
  const metrics = backupMetrics(nobody, {
    residentBytes: 0,
    heapBytes: 0,
    cpuSeconds: 0,
    delayMedian: 0,
    delay99: 0,
    delayMax: 0,
  }).map(({ name, type, help }) => [`\`${name}\``, type, help] as const);
  return (
    [
      introduction,
      table(["method", "path", "token", "what"], paths),
      "## Events",
      eventsIntroduction,
      table(
        ["event", "when, and what comes with it"],
        backupEvents.map((event) => [`\`${event}\``, eventMeanings[event]]),
      ),
      "## Metrics",
      metricsIntroduction,
      table(["metric", "type", "meaning"], metrics),
      "",
    ]
      .join("\n\n")
      .trimEnd() + "\n"
  );
}

/** A server without clusters: its metrics have names, and no values. */
const nobody: BackupService = {
  server: {
    name: "",
    version: "",
    startedAt: "" as BackupService["server"]["startedAt"],
    repository: "",
    encrypted: false,
    apiUrl: "",
  },
  clusters: () => [],
  cluster: () => {
    throw new RangeError("there is no cluster");
  },
  jobs: () => [],
  job: () => {
    throw new RangeError("there is no job");
  },
  cancel: () => {
    throw new RangeError("there is no job");
  },
  get store(): BackupService["store"] {
    throw new RangeError("there is no repository");
  },
};

const introduction = `# The HTTP API of a backup server

<!-- Generated from the route table in src/api/backup: node scripts/generate-reference.mjs after npm run build. -->

On port 8009 unless the backup file says otherwise (\`api.port\`, \`api.listen\`, \`api.tls\`). JSON in snake_case, WAL positions as text,
faults as \`{code, message, detail, hint}\`. What says how things are is open to everybody who reaches the port, as with the agents; what
changes something or gives what is in the database needs \`Authorization: Bearer TOKEN\`: the server's own token
(\`<state_dir>/token\`, mode 0600), or the token of the cluster it is about. A cluster's token opens that cluster alone, and of the
repository's objects \`packs/\`, \`repository.json\` and \`clusters/<cluster>/\`. A client certificate of \`api.tls.client_ca_file\` opens
everything. \`GET /health\` is 200 while every cluster can be worked for, else 503; \`GET /metrics\` is Prometheus' text.`;

const eventsIntroduction = `\`hooks\` of the backup file run a program for each, one after another. It gets PGHERD_CLUSTER, PGHERD_EVENT, PGHERD_MESSAGE,
PGHERD_TIMESTAMP, PGHERD_BACKUP_SERVER and the facts named here as PGHERD_..., and all of it as JSON on its input.`;

const metricsIntroduction = `Every one has the labels \`server\` and, where it is about one, \`cluster\`.`;

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}
