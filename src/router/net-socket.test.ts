import { randomBytes } from "node:crypto";
import { connect, createServer, type Server, type Socket } from "node:net";
import { afterEach, expect, test } from "vitest";
import { systemTimers } from "../system/timers.ts";
import { connectSocket, NetSocket, serverOptions } from "./net-socket.ts";

const open: { destroy: () => void }[] = [];
const servers: Server[] = [];
afterEach(() => {
  for (const socket of open.splice(0)) socket.destroy();
  for (const server of servers.splice(0)) server.close();
});

/** A pair: what a test's client writes comes out at the accepted end. */
async function pair(fast: boolean): Promise<{ client: Socket; accepted: NetSocket; server: Server }> {
  const server = createServer(serverOptions);
  servers.push(server);
  const accepted = new Promise<NetSocket>((resolve) =>
    server.once("connection", (socket) => resolve(NetSocket.accept(socket, fast))),
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const client = connect({ port: portOf(server), host: "127.0.0.1", allowHalfOpen: true });
  client.on("error", () => undefined);
  open.push(client, await accepted);
  return { client, accepted: await accepted, server };
}

function portOf(server: Server): number {
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

/** Gathers what comes until there are `length` bytes. */
function gathered(socket: NetSocket, length: number): Promise<Buffer> {
  return new Promise((resolve) => {
    const pieces: Buffer[] = [];
    let there = 0;
    socket.onBytes = (buffer, count) => {
      pieces.push(Buffer.from(buffer.subarray(0, count)));
      there += count;
      if (there >= length) resolve(Buffer.concat(pieces));
    };
    socket.resume();
  });
}

function connections(server: Server): Promise<number> {
  return new Promise((resolve) => server.getConnections((_, count) => resolve(count)));
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await systemTimers.sleep(5);
}

test("this Node allows the fast reads", async () => {
  const { accepted, client } = await pair(true);
  const buffers = new Set<ArrayBufferLike>();
  accepted.onBytes = (buffer) => buffers.add(buffer.buffer);
  accepted.resume();
  for (let round = 0; round < 3; round += 1) {
    client.write("x");
    await until(() => client.bytesWritten === round + 1);
    await systemTimers.sleep(10);
  }
  // Three reads into one buffer.
  expect(buffers.size).toBe(1);
});

for (const fast of [true, false])
  test(`bytes pass both ways whole and in order, fast reads ${fast}`, async () => {
    const { client, accepted } = await pair(fast);
    const sent = randomBytes(5_000_000);
    client.write(sent);
    expect((await gathered(accepted, sent.length)).equals(sent)).toBe(true);

    const back: Buffer[] = [];
    client.on("data", (chunk) => back.push(chunk));
    const reused = Buffer.alloc(70_000);
    // Pieces of every size, through one buffer that is overwritten at once, to a reader that is slow at first.
    client.pause();
    let at = 0;
    for (let step = 0; at < sent.length; step += 1) {
      const length = Math.min([1, 100, 4_096, 4_097, 65_536, 70_000][step % 6] ?? 1, sent.length - at);
      sent.copy(reused, 0, at, at + length);
      accepted.write(reused, 0, length);
      reused.fill(0);
      at += length;
    }
    expect(accepted.queued).toBeGreaterThan(0);
    const drained = new Promise<void>((resolve) => (accepted.onDrain = resolve));
    client.resume();
    await drained;
    expect(accepted.queued).toBe(0);
    await until(() => client.bytesRead === sent.length);
    expect(Buffer.concat(back).equals(sent)).toBe(true);
  });

for (const fast of [true, false])
  test(`a stopped socket is not read, fast reads ${fast}`, async () => {
    const { client, accepted } = await pair(fast);
    let count = 0;
    accepted.onBytes = (_, length) => (count += length);
    client.write("abc");
    await systemTimers.sleep(20);
    expect(count).toBe(0);
    accepted.resume();
    await until(() => count === 3);
    accepted.pause();
    client.write("def");
    await systemTimers.sleep(20);
    expect(count).toBe(3);
    accepted.resume();
    await until(() => count === 6);
  });

for (const fast of [true, false])
  test(`a half that ends leaves the other half open, fast reads ${fast}`, async () => {
    const { client, accepted } = await pair(fast);
    const ended = new Promise<void>((resolve) => (accepted.onEnd = resolve));
    const closed = new Promise<Error | null>((resolve) => (accepted.onClose = resolve));
    accepted.resume();
    client.end();
    await ended;
    const heard: Buffer[] = [];
    client.on("data", (chunk) => heard.push(chunk));
    accepted.write(Buffer.from("still there"), 0, 11);
    accepted.end();
    expect(await closed).toBeNull();
    expect(accepted.destroyed).toBe(true);
    await until(() => Buffer.concat(heard).toString() === "still there");
  });

test("the server's count follows a socket that was wrapped again", async () => {
  const { accepted, server } = await pair(true);
  expect(await connections(server)).toBe(1);
  accepted.destroy();
  await until(async () => (await connections(server)) === 0);
  server.close();
  await new Promise<void>((resolve) => server.once("close", resolve));
});

test("a reset is told with its reason", async () => {
  const { client, accepted } = await pair(true);
  const closed = new Promise<Error | null>((resolve) => (accepted.onClose = resolve));
  accepted.resume();
  client.resetAndDestroy();
  expect(await closed).toMatchObject({ code: "ECONNRESET" });
});

test("destroy with reset is seen as one", async () => {
  const { client, accepted } = await pair(true);
  const failed = new Promise<Error>((resolve) => client.once("error", resolve));
  client.resume();
  accepted.destroy(true);
  expect(await failed).toMatchObject({ code: "ECONNRESET" });
});

test("bytes that were given back come first, not within resume, and not while stopped", async () => {
  const { client, accepted } = await pair(true);
  client.write("world");
  await gathered(accepted, 5);
  accepted.pause();
  accepted.unread(Buffer.from("hello "));
  client.write("again");
  const heard: string[] = [];
  accepted.onBytes = (buffer, length) => heard.push(buffer.toString("latin1", 0, length));
  accepted.resume();
  expect(heard).toEqual([]);
  accepted.pause();
  await systemTimers.sleep(20);
  expect(heard).toEqual([]);
  accepted.resume();
  await until(() => heard.join("").length === 11);
  expect(heard.join("")).toBe("hello again");
});

test("a connection that is refused, or takes too long, says so", async () => {
  const { server } = await pair(true);
  const port = portOf(server);
  const connected = await connectSocket({ host: "127.0.0.1", port }, new AbortController().signal);
  open.push(connected);
  expect(connected.remotePort).toBe(port);
  const aborted = AbortSignal.abort();
  await expect(connectSocket({ host: "127.0.0.1", port }, aborted)).rejects.toThrow("in time");
  const gone = createServer();
  await new Promise<void>((resolve) => gone.listen(0, "127.0.0.1", resolve));
  const unused = portOf(gone);
  await new Promise((resolve) => gone.close(resolve));
  await expect(
    connectSocket({ host: "127.0.0.1", port: unused }, new AbortController().signal),
  ).rejects.toMatchObject({
    code: "ECONNREFUSED",
  });
});
