import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, it } from "vitest";
import { systemTimers } from "../system/timers.ts";
import { followStream } from "./event-stream.ts";

let server: Server;
let clients: ServerResponse[];
let heard: [string, unknown][];
let stop: () => void;

beforeEach(async () => {
  clients = [];
  heard = [];
  server = createServer((_request, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write("retry: 2000\n\n");
    clients.push(response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  stop = followStream({
    url: `http://127.0.0.1:${port}`,
    authorities: () => Promise.resolve(null),
    timers: systemTimers,
    onEvent: (name, data) => heard.push([name, data]),
  });
  await until(() => clients.length === 1);
});
afterEach(async () => {
  stop();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

async function until(isSo: () => boolean): Promise<void> {
  for (let looks = 0; looks < 1000 && !isSo(); looks += 1) await systemTimers.sleep(5);
  expect(isSo()).toBe(true);
}

it("reads events however the bytes are cut", async () => {
  const text =
    'event: status\ndata: {"leader":"dbé","token":5}\n\n: alive\n\nevent: event\ndata: {"x":1}\n\n';
  for (const byte of Buffer.from(text)) clients[0]?.write(Buffer.from([byte]));
  await until(() => heard.length === 2);
  expect(heard).toEqual([
    ["status", { leader: "dbé", token: 5 }],
    ["event", { x: 1 }],
  ]);
});

it("leaves out what it cannot read", async () => {
  clients[0]?.write(
    'event: status\ndata: {oops\n\ndata: {}\n\nevent: x\n\nevent: status\ndata: {"token":1}\n\n',
  );
  await until(() => heard.length > 0);
  expect(heard).toEqual([["status", { token: 1 }]]);
});

it("connects again when the stream ends", async () => {
  clients[0]?.destroy();
  await until(() => clients.length === 2);
  clients[1]?.write('event: status\ndata: {"token":2}\n\n');
  await until(() => heard.length === 1);
});

it("is silent after it was stopped", async () => {
  stop();
  await until(
    () => clients[0]?.destroyed === true || clients[0]?.writable === false || clients[0]?.closed === true,
  );
  await systemTimers.sleep(700);
  expect(clients).toHaveLength(1);
});
