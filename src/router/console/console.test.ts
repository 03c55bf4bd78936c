import { connect as connectTcp, createServer, type AddressInfo, type Server } from "node:net";
import pg from "pg";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ManualTime } from "../../../test/support/manual-time.ts";
import { fixtureNow } from "../../../test/support/agent-pictures.ts";
import {
  routerPicture,
  routerSettings,
  routerSource,
  sessionView,
} from "../../../test/support/router-source.ts";
import { bind, describe as describeMessage, execute, parse, query, sync } from "../../pgwire/encode.ts";
import { MessageReader } from "../../pgwire/message-reader.ts";
import { encodeStartup, readStartup } from "../../pgwire/startup.ts";
import { NetSocket, serverOptions } from "../net-socket.ts";
import { RouterConsole } from "./console.ts";
import type { Order } from "./order.ts";
import { Refusal } from "./refusal.ts";

const listener = routerSettings.listeners[0]!;
let picture = routerPicture();
let orders: { readonly order: Order; readonly gone: AbortSignal }[] = [];
let answer: () => Promise<{ tag: string; notice: string | null }>;
let admitted = 0;
let released = 0;
let server: Server;
let consoleOfRouter: RouterConsole;
const clients: pg.Client[] = [];
let notes: string[] = [];

beforeEach(async () => {
  const time = new ManualTime(fixtureNow);
  picture = routerPicture();
  orders = [];
  notes = [];
  admitted = 0;
  released = 0;
  answer = () => Promise.resolve({ tag: "DONE", notice: null });
  consoleOfRouter = new RouterConsole({
    source: routerSource(picture),
    clock: time,
    timers: time,
    control: {
      carryOut: (order, gone) => {
        orders.push({ order, gone });
        return answer();
      },
    },
    note: (line) => notes.push(line),
  });
  server = createServer(serverOptions, (accepted) => admit(NetSocket.accept(accepted)));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
});

afterEach(async () => {
  for (const client of clients.splice(0)) await client.end().catch(() => undefined);
  consoleOfRouter.close();
  // Every client's place in the limits is given back, however it ended.
  await expect.poll(() => released).toBe(admitted);
  await new Promise<void>((resolve) => server.close(() => resolve()));
});

/** What the front does, without asking for a password. */
function admit(socket: NetSocket): void {
  socket.onBytes = (buffer, length) => {
    const packet = readStartup(Buffer.from(buffer.subarray(0, length)))?.packet;
    if (packet?.kind !== "startup") throw new Error("the whole start-up packet comes in one piece here");
    socket.pause();
    consoleOfRouter.serve({
      id: (admitted += 1),
      socket,
      listener,
      user: packet.parameters.get("user") ?? "",
      database: packet.parameters.get("database") ?? "",
      parameters: packet.parameters,
      protocolMinor: 0,
      replication: false,
      address: socket.remoteAddress,
      port: socket.remotePort,
      credentials: { kind: "none" },
      cancelKey: { pid: 4711, secret: "\x01\x02\x03\x04" },
      release: () => (released += 1),
    });
  };
  socket.resume();
}

async function connect(): Promise<pg.Client> {
  const { port } = server.address() as AddressInfo;
  const client = new pg.Client({ host: "127.0.0.1", port, user: "postgres", database: "pgherd" });
  client.on("error", () => undefined);
  await client.connect();
  clients.push(client);
  return client;
}

/** A statement in the extended protocol. */
function prepared(
  client: pg.Client,
  text: string,
  rows?: number,
): Promise<pg.QueryResult<Record<string, unknown>>> {
  return client.query({ text, name: text.slice(0, 20), ...(rows === undefined ? {} : { rows }) });
}

describe("the console", () => {
  it("answers in the simple and in the extended protocol with the same rows", async () => {
    picture.sessions.set(1, sessionView(1, { state: "held", stateMs: 2_500, pinned: ["temporary table"] }));
    const client = await connect();
    const simple = await client.query<Record<string, unknown>>("SHOW CLIENTS;");
    expect(simple.rows).toEqual([
      expect.objectContaining({
        type: "C",
        user: "app",
        state: "waiting",
        wait: 2,
        wait_us: 500_000,
        id: "1",
        session_state: "held",
        pinned: "temporary table",
        connect_time: "2026-11-21 13:59:00 UTC",
        local_addr: null,
      }),
    ]);
    expect((await prepared(client, "show clients")).rows).toEqual(simple.rows);
    expect((await prepared(client, "show clients")).rows).toEqual(simple.rows);
  });

  it("has PgBouncer's columns where the word is PgBouncer's", async () => {
    const client = await connect();
    const names = async (text: string): Promise<string> =>
      (await client.query(text)).fields.map((field) => field.name).join(" ");
    expect(await names("SHOW POOLS")).toBe(
      "database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active sv_active_cancel " +
        "sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait maxwait_us pool_mode",
    );
    expect(await names("SHOW DATABASES")).toBe(
      "name host port database force_user pool_size min_pool_size reserve_pool pool_mode max_connections " +
        "current_connections paused disabled",
    );
    expect(await names("SHOW STATS_TOTALS")).toBe(
      "database xact_count query_count bytes_received bytes_sent xact_time query_time wait_time",
    );
    expect(await names("SHOW LISTS")).toBe("list items");
    expect(await names("SHOW CONFIG")).toBe("key value default changeable");
    for (const text of ["SHOW CLIENTS", "SHOW SERVERS"])
      expect(await names(text)).toMatch(
        /^type user database state addr port local_addr local_port connect_time request_time wait wait_us close_needed ptr link remote_pid tls application_name /,
      );
  });

  it("has pgpool's columns and words in SHOW POOL_NODES", async () => {
    const client = await connect();
    const { rows, fields } = await client.query<Record<string, unknown>>("SHOW pool_nodes");
    expect(fields.map((field) => field.name).join(" ")).toBe(
      "node_id hostname port status pg_status lb_weight role pg_role select_cnt load_balance_node replication_delay " +
        "replication_state replication_sync_state last_status_change",
    );
    expect(rows.map((row) => [row["node_id"], row["status"], row["role"], row["lb_weight"]])).toEqual([
      ["0", "up", "primary", "0.000000"],
      ["1", "waiting", "standby", "1.000000"],
    ]);
    expect(rows[1]).toMatchObject({
      replication_delay: "96",
      replication_state: "streaming",
      load_balance_node: "true",
    });
    picture.topology = {
      ...picture.topology,
      detached: new Set(picture.topology.standbys.map((each) => each.node)),
    };
    const [, detached] = (await client.query<Record<string, unknown>>("SHOW pool_nodes")).rows;
    expect(detached).toMatchObject({ status: "down", pg_status: "up", load_balance_node: "false" });
  });

  it("streams ten thousand clients, also while they come and go", async () => {
    for (let id = 1; id <= 10_000; id += 1) picture.sessions.set(id, sessionView(id));
    const client = await connect();
    const listing = client.query<Record<string, unknown>>("SHOW CLIENTS");
    picture.sessions.delete(9_999);
    expect((await listing).rows).toHaveLength(9_999);
    const { rows } = await client.query<Record<string, unknown>>("SHOW POOLS");
    expect(rows).toEqual([expect.objectContaining({ database: "shop", cl_active: 9_999, sv_active: 9_999 })]);
  });

  it("answers what drivers ask of any server", async () => {
    const client = await connect();
    const value = async (text: string): Promise<unknown> =>
      Object.values((await prepared(client, text)).rows[0]!)[0];
    expect(await value("SELECT 1")).toBe(1);
    expect(await value("select version()")).toMatch(/^PostgreSQL 15\.0 \(pgherd 0\.4\.0\)$/);
    expect(await value("select pg_catalog.current_database()")).toBe("pgherd");
    expect(await value("SHOW TRANSACTION ISOLATION LEVEL")).toBe("read committed");
    expect((await client.query("BEGIN; SET extra_float_digits = 3; COMMIT")) as unknown).toHaveLength(3);
  });

  it("gives rows in pieces, also over a Sync while a transaction is open", async () => {
    const client = await connect();
    const all = (await client.query("SHOW LISTS")).rows;
    expect((await prepared(client, "SHOW LISTS", 5)).rows).toEqual(all);
    const { port } = server.address() as AddressInfo;
    const socket = connectTcp(port, "127.0.0.1");
    const reader = new MessageReader();
    const types: string[] = [];
    socket.on("data", (bytes: Buffer) => {
      reader.push(bytes);
      for (let each = reader.next(); each !== null; each = reader.next())
        types.push(String.fromCharCode(each.type));
    });
    const answered = async (messages: readonly Buffer[]): Promise<string> => {
      types.length = 0;
      socket.write(Buffer.concat(messages));
      await expect.poll(() => types.at(-1)).toBe("Z");
      return types.join("");
    };
    await answered([
      encodeStartup([
        ["user", "postgres"],
        ["database", "pgherd"],
      ]),
    ]);
    await answered([query("BEGIN")]);
    const [first, next] = [execute("c", 10), execute("c", 10)];
    const begun = [parse("", "SHOW LISTS"), bind("c", ""), describeMessage("portal", "c"), first, sync()];
    expect(await answered(begun)).toBe(`12T${"D".repeat(10)}sZ`);
    expect(await answered([next, sync()])).toBe(`${"D".repeat(all.length - 10)}CZ`);
    await answered([query("COMMIT")]);
    await answered([sync()]);
    expect(await answered([next, sync()])).toBe("EZ");
    socket.destroy();
  });

  it("carries orders out, one after the other, and tells the log who gave them", async () => {
    const client = await connect();
    answer = () => Promise.resolve({ tag: "PAUSE", notice: "17 sessions are held" });
    const heard: string[] = [];
    client.on("notice", (notice) => heard.push(notice.message ?? ""));
    expect((await client.query("PAUSE shop FOR 10s")).command).toBe("PAUSE");
    await client.query("RESUME; KILL 17; KILL shop; DETACH db2; RECONNECT");
    expect(orders.map(({ order }) => order)).toEqual([
      { kind: "pause", database: "shop", forMs: 10_000 },
      { kind: "resume", database: null },
      { kind: "kill", session: 17 },
      { kind: "kill-database", database: "shop" },
      { kind: "detach", node: "db2" },
      { kind: "reconnect", database: null },
    ]);
    expect(heard[0]).toBe("17 sessions are held");
    expect(notes[0]).toBe("console: postgres: pause shop 10000: 17 sessions are held");
  });

  it.each([
    ["PAUSE FOR 0s", "22023", "a pause has an end"],
    ["PAUSE FOR forever", "22023", "a pause has an end"],
    ["PAUSE shop FOR 11min", "22023", "a pause has an end"],
    ["KILL", "42601", "KILL needs"],
    ["DETACH", "42601", "DETACH needs"],
    ["SHOW nonsense", "42704", 'nothing to show under "nonsense"'],
    ["SELECT * FROM pg_class", "0A000", "no command of this console"],
    ["FROBNICATE", "42601", "no command of this console"],
    ["SHOW 'x", "42601", "unterminated quoted string"],
  ])("refuses %s with %s and goes on", async (text, code, message) => {
    const client = await connect();
    for (const ask of [(line: string) => client.query(line), (line: string) => prepared(client, line)])
      await expect(ask(text)).rejects.toMatchObject({
        code,
        message: expect.stringContaining(message) as unknown,
      });
    expect(orders).toEqual([]);
    expect((await client.query("SHOW VERSION")).rows).toEqual([{ version: "pgherd 0.4.0" }]);
  });

  it("stops at the first command of a text that fails", async () => {
    const client = await connect();
    answer = () =>
      Promise.reject(new Refusal("55000", "2 sessions did not come to rest", "They are in SHOW CLIENTS."));
    await expect(client.query("PAUSE; RESUME")).rejects.toMatchObject({
      code: "55000",
      hint: "They are in SHOW CLIENTS.",
    });
    expect(orders).toHaveLength(1);
  });

  it("tells who carries an order out when the client is gone, and gives the client's place back", async () => {
    const client = await connect();
    answer = () => new Promise(() => undefined);
    const pausing = client.query("PAUSE").catch(() => undefined);
    await expect.poll(() => orders.length).toBe(1);
    (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
    await expect.poll(() => orders[0]?.gone.aborted).toBe(true);
    await pausing;
    expect(released).toBe(1);
  });

  it("ends a client that sends no messages but garbage", async () => {
    const client = await connect();
    const { stream } = (client as unknown as { connection: { stream: { write(bytes: Buffer): void } } })
      .connection;
    const said = new Promise<unknown>((resolve) => client.once("error", resolve));
    stream.write(Buffer.from([0x51, 0x7f, 0xff, 0xff, 0xff, 0]));
    expect(await said).toMatchObject({ code: "08P01", severity: "FATAL" });
    await expect.poll(() => released).toBe(1);
  });

  it("shows the settings without what commands are called with", async () => {
    const client = await connect();
    const { rows } = await client.query<{ key: string; value: string }>("SHOW CONFIG");
    const value = (key: string): string | undefined => rows.find((row) => row.key === key)?.value;
    expect([value("max_client_conn"), value("limits.perUser"), value("listeners.standby.port")]).toEqual([
      "2000",
      "200",
      "5001",
    ]);
  });
});
