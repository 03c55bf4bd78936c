import pg from "pg";
import { DriverFailure, type DriverSession, type DriverTarget, type SessionState } from "./driver.ts";

/**
 * node-postgres in this process. `directTls`: the TLS handshake comes first, as PostgreSQL 17 knows it (ALPN `postgresql`,
 * which node-postgres offers then); the server's certificate is not verified.
 */
export async function nodePostgres(
  target: DriverTarget,
  { directTls }: { readonly directTls: boolean },
): Promise<DriverSession> {
  const client = new pg.Client({
    ...target,
    connectionTimeoutMillis: 10_000,
    ...(directTls ? { ssl: { rejectUnauthorized: false }, sslnegotiation: "direct" } : {}),
  });
  let lost: Error | null = null;
  const heard: string[] = [];
  client.on("error", (error) => (lost = error));
  client.on("end", () => (lost ??= new Error("the connection has ended")));
  client.on("notification", (message) => heard.push(message.payload ?? ""));
  await client.connect();

  const query = async (statement: string | pg.QueryConfig): Promise<pg.QueryResult> => {
    try {
      return await client.query(statement);
    } catch (error) {
      // A lost connection is told to the statement first and to the client a moment later.
      await new Promise((resolve) => setTimeout(resolve, 20));
      const { code, message } = error as { readonly code?: string; readonly message: string };
      throw new DriverFailure(message, code ?? null, lost === null);
    }
  };
  let insert = "";
  const run = async (...statements: readonly (string | pg.QueryConfig)[]): Promise<void> => {
    for (const statement of statements) await query(statement);
  };
  const put = (number: number): pg.QueryConfig => ({ name: "put", text: insert, values: [number] });
  return {
    name: directTls ? "node-postgres, direct TLS" : "node-postgres",
    hold: ({ tenant, channel, table }) => {
      insert = `insert into ${table} (n) values ($1)`;
      const setTenant = { text: "select set_config('app.tenant', $1, false)", values: [tenant] };
      return run("set work_mem = '7MB'", setTenant, `listen ${channel}`);
    },
    write: (number) => run(put(number)),
    transaction: async (numbers) => {
      try {
        await run("begin", ...numbers.map(put), "commit");
      } catch (error) {
        if (lost === null) await run("rollback");
        throw error;
      }
    },
    begin: (number) => run("begin", put(number)),
    commit: () => run("commit"),
    rollback: () => run("rollback"),
    state: async () => {
      const found = await query(
        `select current_setting('work_mem') as work_mem, current_setting('app.tenant', true) as tenant,
                array(select pg_listening_channels()) as channels, inet_server_port() as port`,
      );
      return found.rows[0] as SessionState;
    },
    heard: async () => {
      await query("select 1");
      return heard.splice(0);
    },
    close: async () => client.end().catch(() => undefined),
  };
}
