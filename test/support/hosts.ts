import { execFile, type ExecFileException } from "node:child_process";
import { startProcess, waitFor, type TestProcess } from "./process.ts";

/** How a command on a host ended. */
export interface HostResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Hosts on one switch that know each other by name, made of network namespaces that belong to this user alone: no root is needed, nothing outside is touched. */
export interface TestHosts {
  /** The host's IPv4 address on the switch, `10.77.0.N`. */
  four(host: string): string;
  /** The host's IPv6 address on the switch, `fd77::N`. */
  six(host: string): string;
  /** Runs a command there as the root of the hosts (every capability over their network) to its end. */
  run(
    host: string,
    argv: readonly string[],
    options?: { input?: string; timeoutMs?: number },
  ): Promise<HostResult>;
  /** Starts a program there; `as: "user"` = without capabilities and under a user number that is not 0, as PostgreSQL wants it. */
  start(
    host: string,
    argv: readonly string[],
    options?: { logFile?: string; env?: Readonly<Record<string, string>>; as?: "root" | "user" },
  ): TestProcess;
  /** The host's cable: out = nothing passes. */
  cable(host: string, state: "in" | "out"): Promise<void>;
  /** Whether an address is on the interface of each of these hosts, looked at one right after the other. */
  haveAddress(inTurn: readonly string[], address: string): Promise<boolean[]>;
  remove(): Promise<void>;
}

const limitMs = 30_000;

/** Makes hosts of these names. @throws Error where this kernel lets no user make namespaces */
export async function makeHosts(names: readonly string[]): Promise<TestHosts> {
  const setUp = [
    "set -e",
    "mount -t tmpfs none /run",
    "mkdir -p /run/netns",
    `printf '%s\\n' ${[...names.flatMap((name, index) => [`'10.77.0.${index + 1} ${name}'`, `'fd77::${index + 1} ${name}'`]), "'127.0.0.1 localhost'"].join(" ")} > /run/hosts`,
    "mount --bind /run/hosts /etc/hosts",
    "ip link set lo up",
    "ip link add br0 type bridge mcast_snooping 0",
    "ip link set br0 up",
    ...names.flatMap((name, index) => [
      `ip netns add ${name}`,
      `ip link add ${name} type veth peer name eth0 netns ${name}`,
      `ip link set ${name} master br0 up`,
      `ip -n ${name} link set lo up`,
      `ip -n ${name} address add 10.77.0.${index + 1}/24 dev eth0`,
      `ip -n ${name} address add fd77::${index + 1}/64 dev eth0 nodad`,
      `ip -n ${name} link set eth0 up`,
    ]),
    "echo ready",
    // Holds the namespaces; what runs in them is ended by whoever started it.
    "exec sleep 3600",
  ];
  const holder = startProcess([
    "unshare",
    ...["--user", "--map-root-user", "--net", "--mount"],
    ...["bash", "-c", setUp.join("\n")],
  ]);
  await Promise.race([
    waitFor(() => holder.output().includes("ready"), { timeoutMs: limitMs, what: "the hosts stand" }),
    holder.ended.then(() => Promise.reject(new Error(`hosts cannot be made here: ${holder.output()}`))),
  ]);
  const inside = [
    "nsenter",
    `--target=${holder.pid}`,
    "--user",
    "--net",
    "--mount",
    "--preserve-credentials",
  ];
  const on = (host: string, argv: readonly string[]): [string, ...string[]] => {
    const [program = "", ...rest] = [...inside, "ip", "netns", "exec", host, ...argv];
    return [program, ...rest];
  };
  const number = (host: string): number => {
    const index = names.indexOf(host);
    if (index < 0) throw new Error(`there is no host ${host}`);
    return index + 1;
  };
  const run: TestHosts["run"] = (host, argv, options = {}) => execute(on(host, argv), options);
  return {
    four: (host) => `10.77.0.${number(host)}`,
    six: (host) => `fd77::${number(host)}`,
    run,
    start: (host, argv, options = {}) => {
      const [user, group] = [process.getuid?.() ?? 0, process.getgid?.() ?? 0];
      const asUser = ["unshare", "--user", `--map-user=${user}`, `--map-group=${group}`, "--"];
      const { as, ...rest } = options;
      return startProcess(on(host, as === "user" ? [...asUser, ...argv] : argv), rest);
    },
    cable: async (host, state) => {
      const [program, ...rest] = [...inside, "ip", "link", "set", host, state === "in" ? "up" : "down"];
      await execute([program, ...rest], {});
    },
    haveAddress: async (inTurn, address) => {
      const looks = inTurn.map((host) => `ip -n ${host} -o address show dev eth0; echo ---`);
      const [program, ...rest] = [...inside, "sh", "-c", looks.join("; ")];
      const { stdout } = await execute([program, ...rest], {});
      return stdout
        .split("---\n")
        .slice(0, inTurn.length)
        .map((text) => text.includes(` ${address}/`));
    },
    remove: () => holder.stop(),
  };
}

function execute(
  argv: readonly [string, ...string[]],
  options: { input?: string; timeoutMs?: number },
): Promise<HostResult> {
  return new Promise((resolve) => {
    const child = execFile(
      argv[0],
      argv.slice(1),
      { timeout: options.timeoutMs ?? limitMs, killSignal: "SIGKILL", maxBuffer: 16 * 1024 * 1024 },
      (error: ExecFileException | null, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === "number" ? error.code : -1;
        resolve({ code, stdout, stderr });
      },
    );
    child.stdin?.on("error", () => undefined);
    child.stdin?.end(options.input ?? "");
  });
}
