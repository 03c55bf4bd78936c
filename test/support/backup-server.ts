import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { freePort } from "./ports.ts";
import { processesUnder, startProcess, waitFor, type TestProcess } from "./process.ts";

const program = fileURLToPath(new URL("../../bin/pgherd", import.meta.url));

export interface Answer {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A `pgherd backup serve` of its own, and the commands about it. */
export class BackupServerProcess {
  readonly dir: string;
  readonly config: string;
  readonly log: string;
  readonly url: string;
  #process: TestProcess | null = null;
  #calls = 0;

  private constructor(dir: string, port: number) {
    this.dir = dir;
    this.config = join(dir, "backup.yml");
    this.log = join(dir, "server.log");
    this.url = `http://127.0.0.1:${port}`;
  }

  /** Writes the file of a server in a new directory; `lines` are what it says besides, `repository` its repository as YAML. */
  static async create(
    dir: string,
    lines: readonly string[],
    repository: string = join(dir, "repository"),
  ): Promise<BackupServerProcess> {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    const server = new BackupServerProcess(dir, await freePort());
    const text = [
      ...lines,
      "address: 127.0.0.1",
      `repository: ${repository}`,
      `state_dir: ${join(dir, "state")}`,
      `api: { listen: 127.0.0.1, port: ${new URL(server.url).port} }`,
      "log: { level: debug, format: json }",
      "",
    ];
    writeFileSync(server.config, text.join("\n"), { mode: 0o600 });
    return server;
  }

  get pid(): number {
    if (this.#process === null) throw new Error("the server was not started");
    return this.#process.pid;
  }

  /** Starts it, and waits until it answers. `within`: what comes before its command (a volume of its own). */
  async start(within: readonly string[] = []): Promise<void> {
    const serve = [process.execPath, program, "backup", "serve", "--config", this.config];
    const [first = "", ...rest] = [...within, ...serve];
    this.#process = startProcess([first, ...rest], { cwd: this.dir, logFile: this.log });
    const answers = async (): Promise<boolean> => {
      if ((await this.get("/v1/status")).status === 200) return true;
      throw new Error(this.logText().slice(-3000));
    };
    await waitFor(answers, { timeoutMs: 30_000, what: "the backup server answers" });
  }

  async stop(): Promise<void> {
    await this.#process?.stop(30_000);
    this.#process = null;
  }

  /** SIGKILL for the server alone; its children notice. */
  async kill(): Promise<void> {
    this.#process?.signal("SIGKILL");
    await this.#process?.ended;
    this.#process = null;
  }

  logText(): string {
    return existsSync(this.log) ? readFileSync(this.log, "utf8") : "";
  }

  /** Children of this kind that live. */
  children(kind: "backup-receiver" | "backup-job"): readonly number[] {
    return processesUnder(this.dir)
      .filter(({ command }) => command.includes(kind))
      .map(({ pid }) => pid);
  }

  token(): string {
    return readFileSync(join(this.dir, "state", "token"), "utf8").trim();
  }

  async get(path: string, init: RequestInit = {}): Promise<Response> {
    return fetch(`${this.url}${path}`, { signal: AbortSignal.timeout(30_000), ...init });
  }

  /** With the server's token. */
  async with(path: string, init: RequestInit = {}): Promise<Response> {
    const headers = new Headers(init.headers);
    headers.set("authorization", `Bearer ${this.token()}`);
    return this.get(path, { ...init, headers });
  }

  /** Runs `pgherd backup WORDS --config FILE`. */
  command(...words: readonly string[]): Promise<Answer> {
    return this.commandWith(this.config, ...words);
  }

  /** The same with another file. */
  async commandWith(config: string, ...words: readonly string[]): Promise<Answer> {
    this.#calls += 1;
    const out = join(this.dir, `out-${this.#calls}`);
    const err = join(this.dir, `err-${this.#calls}`);
    const child = startProcess(
      [
        "sh",
        "-c",
        `exec "$@" >'${out}' 2>'${err}'`,
        "sh",
        process.execPath,
        program,
        "backup",
        ...words,
        "--config",
        config,
      ],
      { cwd: this.dir },
    );
    const { code } = await child.ended;
    return { code, stdout: readFileSync(out, "utf8"), stderr: readFileSync(err, "utf8") };
  }

  /** The same with --json; it must succeed. */
  async json<T>(...words: readonly string[]): Promise<T> {
    const answer = await this.command(...words, "--json");
    if (answer.code !== 0) throw new Error(`backup ${words.join(" ")}: ${answer.code}: ${answer.stderr}`);
    return JSON.parse(answer.stdout) as T;
  }
}
