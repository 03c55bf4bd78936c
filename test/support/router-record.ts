import type { RouterRecord } from "../../src/cluster/records.ts";
import type { WallTime } from "../../src/values/time.ts";

/** What a router says of itself. */
export function routerRecord(router: string, over: Partial<RouterRecord> = {}): RouterRecord {
  return {
    name: router,
    routerId: "f2b1",
    sequence: 5,
    version: "0.1.0",
    host: "10.0.0.20",
    listeners: [
      { name: "primary", target: "primary", address: "10.0.0.20", port: 5000, path: "session" },
      { name: "standby", target: "standby", address: "10.0.0.20", port: 5001, path: "session" },
    ],
    admin: { address: "10.0.0.20", port: 6432 },
    apiUrl: null,
    sessions: 40,
    onPrimary: 30,
    pinned: [
      {
        reason: "temporary table",
        count: 2,
        examples: [{ user: "app", database: "shop", application: "reports", address: "10.0.0.40" }],
      },
    ],
    detached: [],
    gate: null,
    moved: null,
    writtenAt: "2026-11-21T14:00:00.000Z" as WallTime,
    ...over,
  };
}
