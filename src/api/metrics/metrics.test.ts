import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  clusterState,
  localPicture,
  nodeRecord,
  primarySql,
  standbyPicture,
  standbySql,
} from "../../../test/support/agent-pictures.ts";
import { ask, startTestApi } from "../../../test/support/api-server.ts";
import type { Lsn } from "../../values/lsn.ts";
import { exposition } from "../../system/exposition.ts";

let running: Awaited<ReturnType<typeof startTestApi>>;
beforeAll(async () => {
  running = await startTestApi();
});
afterAll(() => running.api.close());

/** Every sample by its name and its labels besides scope and name. */
async function scrape(): Promise<Map<string, number>> {
  const { text, headers } = await ask(running.api.url, "GET", "/metrics");
  expect(headers["content-type"]).toContain("text/plain; version=0.0.4");
  const samples = new Map<string, number>();
  for (const line of text.split("\n").filter((row) => row !== "" && !row.startsWith("#"))) {
    const match = /^(\w+)\{scope="shop",name="db1"(?:,(.*))?\} (\S+)$/.exec(line);
    expect(match, line).not.toBeNull();
    const value = match?.[3] === "+Inf" ? Infinity : Number(match?.[3]);
    samples.set(match?.[2] === undefined ? (match?.[1] ?? "") : `${match[1] ?? ""}{${match[2]}}`, value);
  }
  return samples;
}

describe("/metrics", () => {
  it("of a primary", async () => {
    running.service.picture = localPicture();
    const samples = await scrape();
    expect(Object.fromEntries(samples)).toMatchObject({
      patroni_version: 100,
      patroni_postgres_running: 1,
      patroni_postmaster_start_time: Date.parse("2026-11-18T09:00:00Z") / 1000,
      patroni_primary: 1,
      patroni_replica: 0,
      patroni_xlog_location: 0x3000060,
      patroni_xlog_replayed_location: 0,
      patroni_postgres_server_version: 150018,
      patroni_postgres_timeline: 7,
      patroni_postgres_state: 5,
      patroni_cluster_unlocked: 0,
      patroni_is_paused: 0,
      patroni_failover_priority: 1,
      pgherd_leader: 1,
      pgherd_writable: 1,
      pgherd_loop_age_seconds: 0.12,
      pgherd_dcs_age_seconds: 0.3,
      pgherd_paused: 0,
      pgherd_token: 12,
      'pgherd_disk_state{state="ok"}': 1,
      pgherd_disk_probe_seconds: 0.003,
      pgherd_disk_probe_age_seconds: 1.2,
      pgherd_disk_free_bytes: 5e9,
      pgherd_disk_reserve_held: 1,
    });
    expect(samples.get("process_resident_memory_bytes")).toBeGreaterThan(1e6);
    expect(samples.get("process_cpu_seconds_total")).toBeGreaterThan(0);
    expect(samples.get('pgherd_event_loop_delay_seconds{quantile="0.99"}')).toBeGreaterThanOrEqual(0);
  });

  it("of a standby", async () => {
    running.service.picture = standbyPicture(
      { replayedLsn: 0x3000000n as Lsn },
      { dcsAgeMs: null, paused: true },
    );
    expect(Object.fromEntries(await scrape())).toMatchObject({
      patroni_primary: 0,
      patroni_replica: 1,
      patroni_xlog_location: 0,
      patroni_xlog_received_location: 0x3000060,
      patroni_xlog_replayed_location: 0x3000000,
      patroni_xlog_replayed_timestamp: Date.parse("2026-11-21T13:59:59.500Z") / 1000,
      patroni_postgres_streaming: 1,
      patroni_postgres_in_archive_recovery: 0,
      patroni_dcs_last_seen: 0,
      patroni_is_paused: 1,
      pgherd_leader: 0,
      pgherd_dcs_age_seconds: Infinity,
    });
  });

  it("of a stopped node", async () => {
    running.service.picture = localPicture({ postgres: null, record: nodeRecord("db1", null), leads: false });
    expect(Object.fromEntries(await scrape())).toMatchObject({
      patroni_postgres_running: 0,
      patroni_postgres_state: 12,
      patroni_primary: 0,
      patroni_replica: 0,
    });
  });

  it("has the lag of each node that is there, and forgets removed ones", async () => {
    const behind = standbySql({ lsn: 0x3000000n as Lsn });
    running.service.clusterState = clusterState([nodeRecord("db1", primarySql()), nodeRecord("db2", behind)]);
    expect((await scrape()).get('pgherd_node_lag_bytes{node="db2"}')).toBe(0x60);
    running.service.clusterState = clusterState([nodeRecord("db1", primarySql())]);
    expect((await scrape()).has('pgherd_node_lag_bytes{node="db2"}')).toBe(false);
  });

  it("counts events by their names", async () => {
    const before = (await scrape()).get('pgherd_events_total{event="promoted"}');
    running.service.tellEvent();
    const samples = await scrape();
    expect(samples.get('pgherd_events_total{event="promoted"}')).toBe((before ?? 0) + 1);
    expect(samples.get('pgherd_events_total{event="fenced"}')).toBe(0);
  });
});

describe("the text format", () => {
  it("escapes labels and helps, and names every metric with its type", () => {
    const metric = {
      name: "m",
      type: "gauge",
      help: "a\nb\\",
      samples: [{ labels: { l: 'q"\\\n' }, value: -Infinity }],
    } as const;
    expect(exposition([metric], { scope: "s" })).toBe(
      '# HELP m a\\nb\\\\\n# TYPE m gauge\nm{scope="s",l="q\\"\\\\\\n"} -Inf\n',
    );
  });
});
