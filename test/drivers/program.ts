import { execFile, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { DriverFailure, type DriverSession, type DriverTarget, type SessionState } from "./driver.ts";

const answerWithinMs = 60_000;
const pgjdbc = "/usr/share/java/postgresql.jar";
const here = fileURLToPath(new URL(".", import.meta.url));

interface Answer {
  readonly error?: { readonly code: string | null; readonly message: string; readonly open: boolean };
  readonly payloads?: readonly string[];
}

/** Debian's psycopg 3 as a program of its own (README.md has its language). */
export function psycopg(target: DriverTarget): Promise<DriverSession> {
  return startProgram("psycopg", ["/usr/bin/python3", join(here, "python/driver.py")], target);
}

/** Debian's pgjdbc. `classes`: where `compileJava` put the program. */
export function jdbc(target: DriverTarget, classes: string): Promise<DriverSession> {
  return startProgram("pgjdbc", ["java", "-Xmx64m", "-cp", `${pgjdbc}:${classes}`, "Driver"], target);
}

/** Compiles java/Driver.java with Debian's ecj: a Java runtime alone has no compiler. */
export async function compileJava(classes: string): Promise<void> {
  const options = ["-proc:none", "-source", "11", "-target", "11", "-encoding", "UTF-8"];
  const source = join(here, "java/Driver.java");
  await promisify(execFile)("ecj", [...options, "-cp", pgjdbc, "-d", classes, source], { timeout: 60_000 });
}

async function startProgram(
  name: string,
  argv: readonly [string, ...string[]],
  target: DriverTarget,
): Promise<DriverSession> {
  const child = spawn(argv[0], argv.slice(1), { stdio: ["pipe", "pipe", "pipe"] });
  const kill = (): void => void child.kill("SIGKILL");
  process.once("exit", kill);
  let complaints = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    complaints = (complaints + text).slice(-10_000);
  });
  child.stdin.on("error", () => undefined); // it has ended, which the answer that does not come tells
  const waiting: ((line: string | null) => void)[] = [];
  createInterface({ input: child.stdout }).on("line", (line) => waiting.shift()?.(line));
  child.once("close", () => {
    process.off("exit", kill);
    for (const answer of waiting.splice(0)) answer(null);
  });
  const ask = async (request: Readonly<Record<string, unknown>>): Promise<unknown> => {
    const limit = setTimeout(kill, answerWithinMs);
    const line = await new Promise<string | null>((resolve) => {
      if (child.exitCode !== null || child.signalCode !== null) {
        resolve(null);
        return;
      }
      waiting.push(resolve);
      child.stdin.write(`${JSON.stringify(request)}\n`);
    });
    clearTimeout(limit);
    if (line === null) throw new Error(`${name} ended: ${complaints}`);
    const answer = JSON.parse(line) as Answer;
    if (answer.error !== undefined) {
      const { message, code, open } = answer.error;
      throw new DriverFailure(message, code, open);
    }
    return answer;
  };
  await ask({ do: "connect", ...target });
  const order = async (what: string, more: Readonly<Record<string, unknown>> = {}): Promise<void> => {
    await ask({ do: what, ...more });
  };
  return {
    name,
    hold: (state) => order("hold", { ...state }),
    write: (number) => order("write", { number }),
    transaction: (numbers) => order("transaction", { numbers }),
    begin: (number) => order("begin", { number }),
    commit: () => order("commit"),
    rollback: () => order("rollback"),
    state: async () => (await ask({ do: "state" })) as SessionState,
    heard: async () => ((await ask({ do: "heard" })) as Answer).payloads ?? [],
    close: async () => {
      await ask({ do: "close" }).catch(() => undefined);
      kill();
    },
  };
}
