import { readFileSync } from "node:fs";
import { createServer, type RequestListener, type Server } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { afterEach, expect, test } from "vitest";
import { systemTimers } from "../system/timers.ts";
import { makeCertificates } from "../../test/support/certificates.ts";
import { makeTempDir } from "../../test/support/process.ts";
import { askOnce, type Question } from "./client-request.ts";
import { KeptConnections } from "./kept-connections.ts";

let server: Server | null = null;
afterEach(() => {
  server?.closeAllConnections();
  server?.close();
});

/** An agent that answers with how many connections it has seen. */
async function counting(
  afterAnswer: (close: () => void) => void,
  secure: { readonly key: Buffer; readonly cert: Buffer } | null = null,
): Promise<string> {
  let connections = 0;
  const answer: RequestListener = (request, response) => {
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ connections }));
    response.on("finish", () => afterAnswer(() => request.socket.destroy()));
  };
  const started = secure === null ? createServer(answer) : createSecureServer(secure, answer);
  started.on("connection", () => (connections += 1));
  server = started;
  await new Promise<void>((resolve) => started.listen(0, "127.0.0.1", resolve));
  const address = started.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return `${secure === null ? "http" : "https"}://127.0.0.1:${address.port}`;
}

const question = (url: string, kept: KeptConnections, authorities: string | null = null): Question => ({
  ...{ method: "GET", path: "/", body: null, token: null, authorities },
  ...{ connectMs: 2000, timeoutMs: 2000, connections: kept.of(url, authorities) },
});

test("questions in a row go over one connection", async () => {
  const url = await counting(() => undefined);
  const kept = new KeptConnections();
  for (let time = 0; time < 3; time += 1)
    expect(await askOnce(url, question(url, kept))).toEqual({ kind: "answered", body: { connections: 1 } });
});

test("a kept connection that the agent has closed meanwhile is no failure", async () => {
  // Closed a moment after the answer, so that some questions meet a connection on its way out.
  const url = await counting((close) => void systemTimers.after(0, close));
  const kept = new KeptConnections();
  for (let time = 0; time < 50; time += 1)
    expect(await askOnce(url, question(url, kept))).toMatchObject({ kind: "answered" });
});

test("nor with an authority of one's own, which the connection in its place goes by too", async () => {
  const dir = makeTempDir("kept");
  const { server: made } = await makeCertificates(dir.path, ["server"]);
  const secure = { key: readFileSync(made.keyFile), cert: readFileSync(made.certFile) };
  const url = await counting((close) => void systemTimers.after(0, close), secure);
  const kept = new KeptConnections();
  const authority = readFileSync(made.caFile, "utf8");
  for (let time = 0; time < 50; time += 1)
    expect(await askOnce(url, question(url, kept, authority))).toMatchObject({ kind: "answered" });
  await dir.remove();
});

test("other authorities are in force with the next question", () => {
  const kept = new KeptConnections();
  const before = kept.of("https://127.0.0.1:1", null);
  expect(kept.of("https://127.0.0.1:2", null)).toBe(before);
  expect(kept.of("https://127.0.0.1:1", "")).not.toBe(before);
});
