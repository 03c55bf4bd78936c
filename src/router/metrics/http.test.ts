import { readFileSync, writeFileSync } from "node:fs";
import { afterEach, beforeEach, expect, it } from "vitest";
import { fixtureNow } from "../../../test/support/agent-pictures.ts";
import { metricsReference } from "../../../test/support/router-metrics.ts";
import { routerPicture, routerSource, sessionView } from "../../../test/support/router-source.ts";
import { watchProcess } from "../../system/process-probe.ts";
import { systemTimers } from "../../system/timers.ts";
import type { Order } from "../console/order.ts";
import { Refusal } from "../console/refusal.ts";
import { startRouterHttp, type RouterHttp } from "./http.ts";
import { routerMetrics } from "./router-metrics.ts";

let picture = routerPicture();
let http: RouterHttp;
let orders: Order[] = [];

beforeEach(async () => {
  picture = routerPicture();
  orders = [];
  http = await startRouterHttp({
    source: routerSource(picture),
    control: {
      carryOut: (order) => {
        orders.push(order);
        if (order.kind === "attach") throw new Refusal("42704", "there is no node db9", "SHOW POOL_NODES");
        return Promise.resolve({ tag: "DETACH", notice: null });
      },
    },
    listen: "127.0.0.1",
    port: 0,
    token: () => "secret",
    timers: systemTimers,
    note: () => undefined,
  });
});
afterEach(() => http.close());

const get = (path: string, init: RequestInit = {}): Promise<Response> => fetch(`${http.url}${path}`, init);
const withToken = { headers: { authorization: "Bearer secret" } };

async function scrape(): Promise<Map<string, number>> {
  const response = await get("/metrics");
  expect(response.headers.get("content-type")).toContain("text/plain; version=0.0.4");
  const samples = new Map<string, number>();
  for (const line of (await response.text())
    .split("\n")
    .filter((row) => row !== "" && !row.startsWith("#"))) {
    const [, name, labels, value] = /^(\w+)\{scope="shop",router="r1"(?:,(.*))?\} (\S+)$/.exec(line) ?? [];
    expect(value, line).toBeDefined();
    samples.set(
      labels === undefined ? name! : `${name!}{${labels}}`,
      value === "+Inf" ? Infinity : Number(value),
    );
  }
  return samples;
}

it("counts sessions by listener and state, and what pins them", async () => {
  picture.sessions.set(1, sessionView(1, { state: "held" }));
  picture.sessions.set(2, sessionView(2, { listener: "standby", state: "transaction" }));
  picture.sessions.set(3, sessionView(3, { pinned: ["temporary table", "cursor WITH HOLD"] }));
  expect(Object.fromEntries(await scrape())).toMatchObject({
    pgherd_router_healthy: 1,
    pgherd_router_token: 12,
    pgherd_router_streams: 4,
    pgherd_router_topology_age_seconds: 0.12,
    'pgherd_router_sessions{listener="primary",state="held"}': 1,
    'pgherd_router_sessions{listener="primary",state="idle"}': 1,
    'pgherd_router_sessions{listener="primary",state="login"}': 0,
    'pgherd_router_sessions{listener="standby",state="transaction"}': 1,
    'pgherd_router_pinned_sessions{reason="temporary table"}': 1,
    'pgherd_router_pinned_sessions{reason="cursor WITH HOLD"}': 1,
    'pgherd_router_pinned_sessions{reason="open COPY"}': 0,
    'pgherd_router_carried_total{listener="primary"}': 2,
    'pgherd_router_client_bytes_total{listener="standby"}': 5_000_000_000,
    'pgherd_router_routing_seconds_bucket{le="0.005"}': 2,
    'pgherd_router_routing_seconds_bucket{le="+Inf"}': 3,
    pgherd_router_routing_seconds_sum: 0.6,
    'pgherd_router_node_open{node="db2",role="standby"}': 1,
    'pgherd_router_node_lag_bytes{node="db2"}': 96,
    'pgherd_router_vip_held{address="10.0.0.100/24",interface="eth0"}': 1,
    'pgherd_router_errors_total{code="DCS_UNREACHABLE"}': 1,
  });
});

it("is healthy while it listens and knows a primary, and says what is missing", async () => {
  expect((await get("/health")).status).toBe(200);
  picture.listeners = picture.listeners.map((each) => ({ ...each, listening: each.name !== "standby" }));
  const silent = await get("/health");
  expect([silent.status, await silent.json()]).toEqual([
    503,
    { healthy: false, reason: "Not listening: standby.", primary: "db1" },
  ]);
  picture = Object.assign(picture, routerPicture());
  picture.topology = { ...picture.topology, primary: null };
  const lost = await get("/health");
  expect([lost.status, await lost.json()]).toEqual([
    503,
    { healthy: false, reason: "No primary is known.", primary: null },
  ]);
});

it("tells its status without naming a client", async () => {
  picture.sessions.set(1, sessionView(1, { pinned: ["advisory lock"] }));
  const text = await (await get("/status")).text();
  expect(JSON.parse(text)).toMatchObject({
    cluster: "shop",
    router: "r1",
    healthy: true,
    primary: "db1",
    token: 12,
    sessions: { total: 1, by_state: { idle: 1 } },
    pinned: { "advisory lock": 1 },
    nodes: [
      { name: "db1", role: "primary", open: true, sessions: 1 },
      { name: "db2", role: "standby", lag_bytes: 96 },
    ],
  });
  expect(text).not.toContain("10.0.0.40");
});

it("lists sessions and takes orders from whoever has the token, and from nobody else", async () => {
  for (let id = 1; id <= 3_000; id += 1) picture.sessions.set(id, sessionView(id));
  const post = (body: string, headers: Record<string, string>): Promise<Response> =>
    get("/orders", { method: "POST", body, headers });
  const detach = JSON.stringify({ kind: "detach", node: "db2" });
  for (const headers of [{}, { authorization: "Bearer secre" }, { authorization: "Basic secret" }]) {
    expect((await get("/sessions", { headers })).status).toBe(401);
    expect((await post(detach, headers)).status).toBe(401);
  }
  expect(orders).toEqual([]);
  const lines = (await (await get("/sessions", withToken)).text()).trimEnd().split("\n");
  expect([lines.length, JSON.parse(lines[2_999]!)]).toEqual([3_000, expect.objectContaining({ id: 3_000 })]);
  expect((await post(detach, withToken.headers)).status).toBe(200);
  expect(orders).toEqual([{ kind: "detach", node: "db2" }]);
});

it.each([
  ["{", 400, "no JSON"],
  ['{"kind":"detach"}', 400, "no order"],
  ['{"kind":"pause","forMs":0}', 400, "no order"],
  ['{"kind":"attach","node":"db9"}', 409, "no node db9"],
  [`{"kind":"${"x".repeat(5_000)}"}`, 400, "short"],
])("refuses the order %s", async (body, status, message) => {
  const response = await get("/orders", { method: "POST", body, ...withToken });
  expect(response.status).toBe(status);
  expect(((await response.json()) as { message: string }).message).toContain(message);
});

it("describes every metric in the reference", () => {
  const probe = watchProcess();
  const { topology } = picture;
  const node = topology.primary!.node;
  const gate = { id: "1", from: node, to: topology.standbys[0]!.node, token: topology.highestToken! };
  picture.topology = {
    ...topology,
    gate: { ...gate, phase: "warm", stragglers: "abort", drainMs: 3_000, at: fixtureNow },
  };
  const metrics = routerMetrics(routerSource(picture), probe.look());
  probe.close();
  expect(new Set(metrics.map((metric) => metric.name)).size).toBe(metrics.length);
  const file = new URL("../../../docs/reference/router-metrics.md", import.meta.url);
  const text = metricsReference(metrics);
  if (process.env["UPDATE_DOCS"] !== undefined) writeFileSync(file, text);
  expect(readFileSync(file, "utf8")).toBe(text);
});
