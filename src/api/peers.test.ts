import { createServer, type Server } from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { nodeRecord, standbySql } from "../../test/support/agent-pictures.ts";
import { startTestApi, testToken } from "../../test/support/api-server.ts";
import type { Grant } from "../cluster/failsafe.ts";
import type { NodeRecord } from "../cluster/records.ts";
import { systemTimers } from "../system/timers.ts";
import { Fault } from "../values/fault.ts";
import type { FencingToken, NodeName } from "../values/names.ts";
import { Secret } from "../values/secret.ts";
import { createPeers } from "./peers.ts";

const grant: Grant = { holder: "db2" as NodeName, token: 9 as FencingToken, holdMs: 4999.6 };
const limitMs = 899.5;

let running: Awaited<ReturnType<typeof startTestApi>>;
let silent: Server;
let token: Secret | null;
beforeAll(async () => {
  running = await startTestApi();
  silent = createServer(() => undefined);
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
});
beforeEach(() => {
  token = new Secret(testToken);
  running.service.refusal = null;
  running.service.calls.length = 0;
});
afterAll(async () => {
  silent.close();
  await running.api.close();
});

function node(over: Partial<NodeRecord> = {}): NodeRecord {
  return { ...nodeRecord("db1", standbySql()), apiUrl: running.api.url, ...over };
}
const ask = (of: NodeRecord): Promise<string | null> =>
  createPeers(systemTimers, { token: () => token, authorities: () => Promise.resolve(null) }).grant(
    of,
    grant,
    limitMs,
  );

describe("asking another agent for a grant", () => {
  it("is done with the cluster's token, and the very node's word counts", async () => {
    const { nodeId } = running.service.local().record;
    expect(await ask(node({ nodeId }))).toBeNull();
    expect(running.service.calls).toEqual([["grant", { ...grant, holdMs: 5000 }]]);
    expect(await ask(node({ nodeId: "another" }))).toBe("another agent answered");
  });

  it("tells why it is refused", async () => {
    running.service.refusal = new Fault("GRANT_REFUSED", "token 10 was promised");
    expect(await ask(node())).toContain("token 10 was promised");
  });

  it("is refused without the right token, and not even sent without any", async () => {
    token = new Secret("wrong");
    expect(await ask(node())).toContain("credentials");
    token = null;
    expect(await ask(node())).toBe("this node does not know the cluster's token");
    expect(running.service.calls).toEqual([]);
  });

  it("does not wait longer than it was told for one that is silent, gone, or no agent", async () => {
    const address = silent.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    const started = performance.now();
    expect(await ask(node({ apiUrl: `http://127.0.0.1:${port}` }))).toBe("no answer within 900 ms");
    expect(performance.now() - started).toBeLessThan(3000);
    expect(await ask(node({ apiUrl: "http://127.0.0.1:1" }))).toContain("ECONNREFUSED");
  });
});
