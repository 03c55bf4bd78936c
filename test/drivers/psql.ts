import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { DriverFailure, type DriverSession, type DriverTarget } from "./driver.ts";

const answerWithinMs = 60_000;
const notification = /^Asynchronous notification ".*" with payload "(.*)" received from server process/;

/** What came before the mark that follows each request. */
interface PsqlAnswer {
  readonly rows: readonly string[];
  readonly code: string;
}

/**
 * psql (libpq) with its standard input as the person who types. psql never reconnects when it is not interactive: a lost
 * connection ends it.
 */
export async function psql(target: DriverTarget): Promise<DriverSession> {
  const { host, port, user, password, database } = target;
  const child = spawn(
    "psql",
    ["-X", "-q", "-A", "-t", "-h", host, "-p", String(port), "-U", user, database],
    {
      env: { ...process.env, PGPASSWORD: password, PGCONNECT_TIMEOUT: "10" },
      stdio: ["pipe", "pipe", "pipe"],
    },
  );
  const kill = (): void => void child.kill("SIGKILL");
  process.once("exit", kill);
  let complaints = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    complaints = (complaints + text).slice(-2000);
  });
  child.stdin.on("error", () => undefined); // it has ended, which the answer that does not come tells
  const heard: string[] = [];
  let rows: string[] = [];
  let answered: ((answer: PsqlAnswer | null) => void) | null = null;
  createInterface({ input: child.stdout }).on("line", (line) => {
    const [, payload] = notification.exec(line) ?? [];
    const [, code] = /^done (\w*)$/.exec(line) ?? [];
    if (payload !== undefined) heard.push(payload);
    else if (code === undefined) rows.push(line);
    else {
      answered?.({ rows, code });
      rows = [];
    }
  });
  child.once("close", () => {
    process.off("exit", kill);
    answered?.(null);
  });

  const failure = async (code: string | null, open: boolean): Promise<DriverFailure> => {
    // Its complaint comes on another pipe than the mark.
    await new Promise((resolve) => setTimeout(resolve, 20));
    const text = complaints.trim();
    complaints = "";
    return new DriverFailure(text, code, open);
  };
  /** Statements one after another: the first that fails ends the request. */
  const ask = async (...statements: readonly string[]): Promise<readonly string[]> => {
    const all: string[] = [];
    for (const statement of statements) {
      const limit = setTimeout(kill, answerWithinMs);
      const answer = await new Promise<PsqlAnswer | null>((resolve) => {
        answered = resolve;
        if (child.exitCode !== null || child.signalCode !== null) resolve(null);
        else child.stdin.write(`${statement};\n\\echo done :SQLSTATE\n`);
      });
      clearTimeout(limit);
      if (answer === null) throw await failure(null, false);
      if (answer.code !== "00000") throw await failure(answer.code, true);
      all.push(...answer.rows);
    }
    return all;
  };
  const run = async (...statements: readonly string[]): Promise<void> => {
    await ask(...statements);
  };
  // Rows by plain statements: what an EXECUTE runs is not told by its text, so that a server that dies while it runs takes
  // the session with it. The prepared statement is there to be carried, and `state` runs it.
  let table = "";
  const put = (number: number): string => `insert into ${table} (n) values (${number})`;
  const session: DriverSession = {
    name: "psql",
    hold: (state) => {
      ({ table } = state);
      return run(
        "set work_mem = '7MB'",
        `set app.tenant = '${state.tenant}'`,
        `listen ${state.channel}`,
        `prepare state as select json_build_object('work_mem', current_setting('work_mem'),
           'tenant', current_setting('app.tenant', true), 'channels', array(select pg_listening_channels()),
           'port', inet_server_port())`.replaceAll("\n", " "),
      );
    },
    write: (number) => run(put(number)),
    transaction: async (numbers) => {
      try {
        await run("begin", ...numbers.map(put), "commit");
      } catch (error) {
        if (error instanceof DriverFailure && error.open) await run("rollback");
        throw error;
      }
    },
    begin: (number) => run("begin", put(number)),
    commit: () => run("commit"),
    rollback: () => run("rollback"),
    state: async () => {
      const [text = ""] = await ask("execute state");
      return JSON.parse(text) as Awaited<ReturnType<DriverSession["state"]>>;
    },
    heard: async () => {
      await ask("select 1");
      return heard.splice(0);
    },
    close: async () => {
      child.stdin.end();
      const limit = setTimeout(kill, 5000);
      if (child.exitCode === null && child.signalCode === null)
        await new Promise((resolve) => child.once("close", resolve));
      clearTimeout(limit);
    },
  };
  await ask("select 1");
  return session;
}
