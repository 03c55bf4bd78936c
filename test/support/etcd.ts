import { execFile, spawn, type ChildProcess } from "node:child_process";
import { openSync, closeSync, existsSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { makeCertificates, type CertificateFiles } from "./certificates.ts";
import { freePorts } from "./ports.ts";

const run = promisify(execFile);
const readyWithinMs = 30_000;

/** What kind of etcd to start. */
export interface EtcdOptions {
  /** 1, 3 or 5. */
  readonly members?: number;
  /** Where data and logs go; left out = a temporary folder, removed by `stop()`. */
  readonly dir?: string;
  /** "server": TLS, any client; "mutual": clients must show a certificate of the same authority. */
  readonly tls?: "server" | "mutual";
  /** Turns authentication on: root has the password, and a user gets read and write below the prefix. */
  readonly auth?: EtcdAuth;
  /** Additional arguments of every member, for example `--auth-token-ttl=2`. */
  readonly args?: readonly string[];
}

/** The users of a store with authentication. */
export interface EtcdAuth {
  readonly rootPassword: string;
  readonly username: string;
  readonly password: string;
  readonly prefix: string;
}

/** One running (or killed) member. */
export interface EtcdMember {
  readonly name: string;
  readonly endpoint: string;
  /** Undefined while it does not run. */
  readonly pid: number | undefined;
  /** SIGKILL; resolves when the process is gone. */
  kill(): Promise<void>;
  /** SIGSTOP. */
  freeze(): void;
  /** SIGCONT. */
  thaw(): void;
  /** Starts a killed member again on its data; resolves when it accepts connections, also without a quorum. */
  restart(): Promise<void>;
}

/** A running etcd cluster. */
export interface TestEtcd {
  readonly dir: string;
  /** Client URLs of all members. */
  readonly endpoints: string[];
  readonly members: EtcdMember[];
  /** With TLS: files for a client whose certificate has the CN `client`. */
  readonly clientTls: CertificateFiles | undefined;
  /** The member that leads now. */
  readonly leader: () => Promise<EtcdMember>;
  /** Runs etcdctl against all endpoints (as root where authentication is on) and returns its output. */
  readonly ctl: (...args: string[]) => Promise<string>;
  /** Resolves when every running member answers and sees a leader. */
  readonly ready: () => Promise<void>;
  /** Kills everything, at once and without ceremony. */
  readonly stop: () => Promise<void>;
}

/** Starts etcd on free ports of 127.0.0.1 and waits until it is healthy. It dies with the test process, however that ends. */
export async function startEtcd(options: EtcdOptions = {}): Promise<TestEtcd> {
  const count = options.members ?? 1;
  const dir = options.dir ?? (await mkdtemp(join(tmpdir(), "pgherd-etcd-")));
  await mkdir(dir, { recursive: true });
  const certificates =
    options.tls === undefined ? undefined : await makeCertificates(dir, ["server", "client"]);
  const ports = await freePorts(count * 3);
  const scheme = certificates === undefined ? "http" : "https";
  const places = Array.from({ length: count }, (_, index) => ({
    name: `etcd${index + 1}`,
    client: `${scheme}://127.0.0.1:${ports[index * 3]!}`,
    peer: `http://127.0.0.1:${ports[index * 3 + 1]!}`,
    metrics: `http://127.0.0.1:${ports[index * 3 + 2]!}`,
  }));
  const initial = places.map((place) => `${place.name}=${place.peer}`).join(",");
  const secure =
    certificates === undefined
      ? []
      : [
          ...["--cert-file", certificates.server.certFile, "--key-file", certificates.server.keyFile],
          ...(options.tls === "mutual"
            ? ["--client-cert-auth", "--trusted-ca-file", certificates.server.caFile]
            : []),
        ];
  const members = places.map((place) =>
    createMember({
      name: place.name,
      endpoint: place.client,
      metrics: place.metrics,
      logFile: join(dir, `${place.name}.log`),
      args: [
        ...["--name", place.name, "--data-dir", join(dir, place.name)],
        ...["--listen-client-urls", place.client, "--advertise-client-urls", place.client],
        ...["--listen-peer-urls", place.peer, "--initial-advertise-peer-urls", place.peer],
        ...["--listen-metrics-urls", place.metrics, "--initial-cluster", initial],
        ...["--initial-cluster-state", "new", "--initial-cluster-token", dir],
        ...["--logger", "zap", "--log-level", "warn"],
        ...secure,
        ...(options.args ?? []),
      ],
    }),
  );
  const endpoints = places.map((place) => place.client);
  const ctlArgs = [
    ...["--endpoints", endpoints.join(",")],
    ...(certificates === undefined
      ? []
      : [
          "--cacert",
          certificates.client.caFile,
          "--cert",
          certificates.client.certFile,
          "--key",
          certificates.client.keyFile,
        ]),
  ];
  let rootLogin: string[] = [];
  const ctl = async (...args: string[]): Promise<string> => {
    const done = await run("etcdctl", [...ctlArgs, ...rootLogin, ...args], {
      env: { PATH: process.env["PATH"], ETCDCTL_API: "3" },
      timeout: 20_000,
      maxBuffer: 64 * 1024 * 1024,
    });
    return done.stdout;
  };
  const ready = async (): Promise<void> => {
    await Promise.all(members.filter((member) => member.pid !== undefined).map((member) => member.healthy()));
  };
  const stop = async (): Promise<void> => {
    await Promise.all(members.map((member) => member.kill()));
    if (options.dir === undefined) await rm(dir, { recursive: true, force: true, maxRetries: 5 });
  };
  try {
    for (const member of members) member.start();
    await ready();
    if (options.auth !== undefined) {
      await enableAuthentication(ctl, options.auth);
      rootLogin = ["--user", `root:${options.auth.rootPassword}`];
    }
  } catch (error) {
    await Promise.all(members.map((member) => member.kill()));
    throw error;
  }
  return {
    dir,
    endpoints,
    members,
    clientTls: certificates?.client,
    ctl,
    ready,
    stop,
    leader: () => findLeader(members),
  };
}

async function enableAuthentication(ctl: TestEtcd["ctl"], auth: EtcdAuth): Promise<void> {
  await ctl("user", "add", `root:${auth.rootPassword}`);
  await ctl("user", "grant-role", "root", "root");
  await ctl("role", "add", "cluster");
  await ctl("role", "grant-permission", "cluster", "--prefix=true", "readwrite", auth.prefix);
  await ctl("user", "add", `${auth.username}:${auth.password}`);
  await ctl("user", "grant-role", auth.username, "cluster");
  await ctl("auth", "enable");
}

interface MemberPlan {
  readonly name: string;
  readonly endpoint: string;
  readonly metrics: string;
  readonly logFile: string;
  readonly args: readonly string[];
}

interface StartedMember extends EtcdMember {
  start(): void;
  healthy(): Promise<void>;
  leads(): Promise<boolean>;
}

function createMember(plan: MemberPlan): StartedMember {
  let child: ChildProcess | undefined;
  let gone: Promise<void> = Promise.resolve();
  const start = (): void => {
    const log = openSync(plan.logFile, "a");
    // The parent-death signal, so that an aborted test run leaves no etcd behind.
    const started = spawn("setpriv", ["--pdeathsig", "KILL", "etcd", ...plan.args], {
      stdio: ["ignore", log, log],
    });
    closeSync(log);
    child = started;
    gone = new Promise((resolve) => {
      const ended = (): void => {
        if (child === started) child = undefined;
        resolve();
      };
      started.once("exit", ended);
      started.once("error", ended);
    });
  };
  const until = async (what: string, test: () => Promise<boolean>): Promise<void> => {
    const end = performance.now() + readyWithinMs;
    while (!(await test())) {
      if (child === undefined || performance.now() > end) {
        const log = existsSync(plan.logFile) ? readFileSync(plan.logFile, "utf8").slice(-2000) : "";
        throw new Error(`${plan.name} is not ${what}; the end of its log:\n${log}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
  };
  const page = async (path: string): Promise<Response | undefined> => {
    try {
      return await fetch(`${plan.metrics}${path}`, { signal: AbortSignal.timeout(2000) });
    } catch {
      return undefined;
    }
  };
  return {
    name: plan.name,
    endpoint: plan.endpoint,
    get pid() {
      return child?.pid;
    },
    start,
    healthy: () => until("healthy", async () => (await page("/health"))?.status === 200),
    leads: async () => /^etcd_server_is_leader 1$/m.test((await (await page("/metrics"))?.text()) ?? ""),
    kill: async () => {
      child?.kill("SIGKILL");
      await gone;
    },
    freeze: () => void child?.kill("SIGSTOP"),
    thaw: () => void child?.kill("SIGCONT"),
    restart: async () => {
      if (child !== undefined) throw new Error(`${plan.name} still runs`);
      start();
      await until("listening", async () => (await page("/metrics")) !== undefined);
    },
  };
}

async function findLeader(members: readonly StartedMember[]): Promise<EtcdMember> {
  const end = performance.now() + readyWithinMs;
  while (performance.now() < end) {
    for (const member of members) if (await member.leads()) return member;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error("no member leads");
}
