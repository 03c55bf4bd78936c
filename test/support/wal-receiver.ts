import { fork, type ChildProcess } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import type { ReceiverOrder, ReceiverReport, ReceiverStatus } from "../../src/backup/receiver/protocol.ts";
import { secrets } from "./postgres.ts";
import { waitFor } from "./process.ts";

type Report<Kind extends ReceiverReport["kind"]> = Extract<ReceiverReport, { kind: Kind }>;

/** A receiver as its daemon sees it; what it delivers is kept in a directory. */
export interface TestReceiver {
  /** Everything that was delivered, by name; orphans as `<id>.orphan`. */
  readonly archiveDir: string;
  readonly liveDir: string;
  readonly reports: readonly ReceiverReport[];
  readonly status: () => ReceiverStatus | null;
  readonly pid: () => number;
  /** Reports of one kind, in order. */
  of<Kind extends ReceiverReport["kind"]>(kind: Kind): readonly Report<Kind>[];
  send(order: ReceiverOrder): void;
  streams(): Promise<void>;
  /** Names of whole segments delivered so far, ascending. */
  segments(): readonly string[];
  archived(name: string): Promise<Buffer>;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>;
  /** Starts it again on what it has. */
  start(): void;
  /** Takes nothing over for a while: a repository that is away. */
  holdDeliveries(hold: boolean): void;
  /** Closes the channel, as the death of the daemon does. */
  disconnect(): Promise<void>;
  stop(): Promise<void>;
}

export interface TestReceiverOptions {
  readonly dir: string;
  /** Servers without agents by their ports of 127.0.0.1, or a cluster's DCS as `host:port`. */
  readonly from:
    { readonly ports: readonly number[] } | { readonly etcd: readonly string[]; readonly cluster: string };
}

/** Starts a receiver called `archive`. */
export function startReceiver({ dir, from }: TestReceiverOptions): TestReceiver {
  const cluster = "cluster" in from ? from.cluster : "test";
  const archiveDir = join(dir, "archive");
  mkdirSync(archiveDir, { recursive: true });
  const config = join(dir, "backup.yml");
  writeFileSync(
    config,
    [
      "name: archive",
      `cluster: ${cluster}`,
      "address: 127.0.0.1",
      `repository: ${join(dir, "repository")}`,
      `state_dir: ${join(dir, "state")}`,
      ...("ports" in from ? serversOf(dir, from.ports) : [`dcs: { etcd: [${from.etcd.join(", ")}] }`]),
      "log: { format: json }",
    ].join("\n"),
  );
  const reports: ReceiverReport[] = [];
  const upTo = new Map<number, string>();
  let child: ChildProcess | null = null;
  let gone: Promise<void> = Promise.resolve();
  let held: (() => void)[] | null = null;
  const send = (order: ReceiverOrder): void => void child?.send(order, () => undefined);
  const take = (report: ReceiverReport): void => {
    const keep = (as: string, path: string): void => {
      if (existsSync(path)) copyFileSync(path, join(archiveDir, as));
    };
    switch (report.kind) {
      case "hello":
        send({ kind: "start", archived: [...upTo].map(([timeline, lsn]) => ({ timeline, lsn })) });
        return;
      case "segment": {
        keep(report.name, report.path);
        const timeline = parseInt(report.name.slice(0, 8), 16);
        const end =
          (BigInt(`0x${report.name.slice(8, 16)}`) << 32n) +
          (BigInt(`0x${report.name.slice(16)}`) + 1n) * 16_777_216n;
        upTo.set(timeline, `${(end >> 32n).toString(16)}/${(end & 0xffffffffn).toString(16)}`);
        send({
          kind: "stored",
          name: report.name,
          archivedUpTo: { timeline, lsn: upTo.get(timeline) ?? "" },
        });
        return;
      }
      case "partial":
        keep(`${report.name}.partial`, report.path);
        send({ kind: "stored", name: `${report.name}.partial`, archivedUpTo: null });
        return;
      case "history":
        keep(report.name, report.path);
        send({ kind: "stored", name: report.name, archivedUpTo: null });
        return;
      case "orphan":
        keep(`${report.id}.orphan`, report.path);
        send({ kind: "kept", id: report.id });
        return;
      case "gap":
        send({ kind: "kept", id: report.id });
        return;
      case "status":
      case "failed":
        return;
    }
  };
  const start = (): void => {
    const started = fork("bin/pgherd", ["backup-receiver", "--config", config, "--cluster", cluster], {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    child = started;
    const killWithParent = (): void => void started.kill("SIGKILL");
    process.on("exit", killWithParent);
    started.on("message", (message) => {
      const report = message as ReceiverReport;
      reports.push(report);
      if (held === null || report.kind === "hello") take(report);
      else held.push(() => take(report));
    });
    gone = new Promise((resolve) => {
      started.once("exit", () => {
        process.off("exit", killWithParent);
        if (child === started) child = null;
        resolve();
      });
    });
  };
  const of = <Kind extends ReceiverReport["kind"]>(kind: Kind): readonly Report<Kind>[] =>
    reports.filter((report): report is Report<Kind> => report.kind === kind);
  const status = (): ReceiverStatus | null => of("status").at(-1)?.status ?? null;
  start();
  return {
    archiveDir,
    liveDir: join(dir, "repository", "clusters", cluster, "wal", "live"),
    reports,
    status,
    pid: () => child?.pid ?? 0,
    of,
    send,
    streams: async () => {
      await waitFor(() => status()?.state === "streaming", {
        timeoutMs: 30_000,
        what: `the receiver streams; it says ${JSON.stringify(status())}`,
        everyMs: 10,
      });
    },
    segments: () =>
      readdirSync(archiveDir)
        .filter((file) => /^[0-9A-F]{24}$/.test(file))
        .sort(),
    archived: async (file) => {
      await waitFor(() => existsSync(join(archiveDir, file)), {
        timeoutMs: 30_000,
        what: `${file} is archived`,
        everyMs: 10,
      });
      return readFileSync(join(archiveDir, file));
    },
    kill: async () => {
      child?.kill("SIGKILL");
      await gone;
    },
    start,
    holdDeliveries: (hold) => {
      const waiting = held ?? [];
      held = hold ? [] : null;
      for (const deliver of waiting) deliver();
    },
    disconnect: async () => {
      child?.disconnect();
      await gone;
    },
    stop: async () => {
      if (child === null) return;
      send({ kind: "stop" });
      const insist = setTimeout(() => child?.kill("SIGKILL"), 15_000);
      await gone;
      clearTimeout(insist);
    },
  };
}

/** Lines of the file about servers without agents. */
function serversOf(dir: string, ports: readonly number[]): readonly string[] {
  const passwordFile = join(dir, "password");
  writeFileSync(passwordFile, secrets.replication.password.reveal(), { mode: 0o600 });
  return [
    "connection:",
    `  hosts: [${ports.map((port) => `"127.0.0.1:${port}"`).join(", ")}]`,
    `  user: ${secrets.replication.user}`,
    `  password_file: ${passwordFile}`,
  ];
}

/** A relay to a port of 127.0.0.1 that flips one bit on its way to the client when it is told to. */
export interface FlippingRelay {
  readonly port: number;
  /** The next chunk of at least this many bytes loses a bit in its middle. */
  damageNext(bytes: number): void;
  readonly damaged: () => number;
  stop(): Promise<void>;
}

export async function startFlippingRelay(targetPort: number): Promise<FlippingRelay> {
  const sockets = new Set<Socket>();
  let wanted: number | null = null;
  let damaged = 0;
  const server: Server = createServer((client) => {
    const target = connect(targetPort, "127.0.0.1");
    const end = (): void => {
      client.destroy();
      target.destroy();
    };
    for (const socket of [client, target]) {
      sockets.add(socket);
      socket.setNoDelay(true).on("error", end).on("close", end);
    }
    client.on("data", (chunk) => void target.write(chunk));
    target.on("data", (chunk: Buffer) => {
      if (wanted !== null && chunk.length >= wanted) {
        wanted = null;
        damaged += 1;
        const at = Math.floor(chunk.length / 2);
        chunk.writeUInt8(chunk.readUInt8(at) ^ 0x10, at);
      }
      client.write(chunk);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the relay has no port");
  return {
    port: address.port,
    damageNext: (bytes) => (wanted = bytes),
    damaged: () => damaged,
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
