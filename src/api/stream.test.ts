import { setImmediate as afterIo } from "node:timers/promises";
import { EventEmitter } from "node:events";
import type { ServerResponse } from "node:http";
import { describe, expect, it } from "vitest";
import { fixtureNow } from "../../test/support/agent-pictures.ts";
import { FixtureService } from "../../test/support/agent-service.ts";
import { ask, startTestApi } from "../../test/support/api-server.ts";
import { ManualTime } from "../../test/support/manual-time.ts";
import { clientBufferBytes, heartbeatMs, StreamHub, streamClientLimit } from "./stream.ts";

/** A response whose reader can stop reading. */
class SlowResponse extends EventEmitter {
  writableLength = 0;
  reads = true;
  destroyed = false;
  text = "";

  writeHead(): void {
    this.text = "";
  }
  write(text: string): boolean {
    this.text += text;
    if (!this.reads) this.writableLength += text.length;
    return this.reads;
  }
  destroy(): void {
    this.destroyed = true;
    this.emit("close");
  }
  /** Takes all that waits. */
  readAgain(): void {
    this.reads = true;
    this.writableLength = 0;
    this.emit("drain");
  }
  /** The names of the events since the last call. */
  taken(): string[] {
    const names = [...this.text.matchAll(/^event: (\w+)$/gm)].map((match) => match[1] ?? "");
    this.text = "";
    return names;
  }
}

function setUp(): { service: FixtureService; time: ManualTime; hub: StreamHub; follow: () => SlowResponse } {
  const service = new FixtureService();
  const time = new ManualTime(fixtureNow);
  const hub = new StreamHub(service, time);
  const follow = (): SlowResponse => {
    const response = new SlowResponse();
    hub.follow(response as unknown as ServerResponse);
    return response;
  };
  return { service, time, hub, follow };
}

describe("the stream", () => {
  it("begins with the status and tells events at once, the status shortly after", () => {
    const { service, time, follow } = setUp();
    const client = follow();
    expect(client.taken()).toEqual(["status"]);
    service.tellEvent();
    expect(client.taken()).toEqual(["event"]);
    time.pass(100);
    expect(client.taken()).toEqual(["status"]);
  });

  it("tells many changes of the status as one", () => {
    const { service, time, follow } = setUp();
    const client = follow();
    client.taken();
    for (let change = 0; change < 50; change += 1) service.tell({ kind: "status" });
    time.pass(1000);
    expect(client.taken()).toEqual(["status"]);
  });

  it("holds a bounded amount for a client that does not read, and makes it good by the latest status", () => {
    const { service, follow } = setUp();
    const [slow, quick] = [follow(), follow()];
    slow.reads = false;
    slow.text = "";
    quick.taken();
    for (let event = 0; event < 5000; event += 1) service.tellEvent();
    expect(slow.writableLength).toBeLessThan(clientBufferBytes + 1024);
    expect(quick.taken()).toHaveLength(5000);
    const received = slow.taken().length;
    slow.readAgain();
    expect(slow.text).toContain(`event: dropped\ndata: {"items":${5000 - received}}`);
    expect(slow.taken()).toEqual(["dropped", "status"]);
    service.tellEvent();
    expect(slow.taken()).toEqual(["event"]);
  });

  it("cuts a client that reads nothing for a minute", () => {
    const { service, time, hub, follow } = setUp();
    const client = follow();
    client.reads = false;
    for (let event = 0; event < 1000; event += 1) service.tellEvent();
    time.pass(5 * heartbeatMs);
    expect(client.destroyed).toBe(false);
    time.pass(heartbeatMs);
    expect(client.destroyed).toBe(true);
    expect(hub.size).toBe(0);
  });

  it("gives a sign of life, and runs no timer when nobody follows", () => {
    const { time, follow } = setUp();
    const client = follow();
    client.text = "";
    time.pass(3 * heartbeatMs);
    expect(client.text).toBe(": alive\n\n".repeat(3));
    client.destroy();
    time.pass(heartbeatMs);
    expect(time.waiting).toBe(0);
  });

  it("takes so many clients and no more, and a place becomes free again", () => {
    const { hub, follow } = setUp();
    const clients = Array.from({ length: streamClientLimit }, follow);
    expect(() => hub.checkRoom()).toThrow(expect.objectContaining({ code: "TOO_MANY_CLIENTS" }));
    clients[0]?.destroy();
    expect(() => hub.checkRoom()).not.toThrow();
  });

  it("ends every client and its subscription when it closes", () => {
    const { service, hub, time, follow } = setUp();
    const client = follow();
    service.tellEvent();
    hub.close();
    expect(client.destroyed).toBe(true);
    expect(service.listeners.size).toBe(0);
    expect(time.waiting).toBe(0);
  });
});

describe("over HTTP", () => {
  it("a client receives server-sent events and is forgotten when it goes", async () => {
    const { api, service } = await startTestApi();
    try {
      const controller = new AbortController();
      const response = await fetch(`${api.url}/v1/stream`, { signal: controller.signal });
      expect(response.headers.get("content-type")).toBe("text/event-stream");
      const reader = response.body?.getReader();
      let text = "";
      const until = async (wanted: string): Promise<void> => {
        while (!text.includes(wanted)) {
          const chunk = await reader?.read();
          if (chunk?.value === undefined) throw new Error("the stream ended");
          text += Buffer.from(chunk.value as Uint8Array).toString("utf8");
        }
      };
      await until("event: status\n");
      service.tellEvent();
      await until('"event":"promoted"');
      expect(await clients(api.url)).toBe(1);
      controller.abort();
      while ((await clients(api.url)) > 0) await afterIo();
    } finally {
      await api.close();
    }
  });
});

async function clients(base: string): Promise<number> {
  const { text } = await ask(base, "GET", "/metrics");
  return Number(/^pgherd_stream_clients\{.*\} (\d+)$/m.exec(text)?.[1]);
}
