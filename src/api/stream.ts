import type { ServerResponse } from "node:http";
import type { AgentService, StreamItem } from "../agent/service.ts";
import type { Timer, Timers } from "../system/timers.ts";
import { Fault } from "../values/fault.ts";

/** The most clients that may follow the stream at the same time. */
export const streamClientLimit = 100;
/** How often a sign of life is sent. */
export const heartbeatMs = 10_000;
/** What may wait for one client; a slower one is told the latest status once it reads again. */
export const clientBufferBytes = 64 * 1024;
/** Changes of the status within this time are told as one. */
const statusGatherMs = 100;
/** A client that has not taken anything for so many heartbeats is cut. */
const patience = 6;

interface Client {
  readonly response: ServerResponse;
  /** Items left out because the client did not read. */
  dropped: number;
  /** Heartbeats since it stopped reading. */
  stalled: number;
}

/**
 * Tells every follower of `/v1/stream` what happens, as server-sent events: `status` first and after every change, then
 * `event` and `decision`. Each item is put into text once for all; what one client does not read in time is dropped for
 * that client alone, and made good by the latest status (`dropped` says how many items are missing).
 */
export class StreamHub {
  readonly #service: AgentService;
  readonly #timers: Timers;
  readonly #clients = new Set<Client>();
  readonly #unsubscribe: () => void;
  #statusTimer: Timer | null = null;
  #heartbeat: Timer | null = null;
  #closed = false;

  constructor(service: AgentService, timers: Timers) {
    this.#service = service;
    this.#timers = timers;
    this.#unsubscribe = service.subscribe((item) => this.#tell(item));
  }

  /** How many follow now. */
  get size(): number {
    return this.#clients.size;
  }

  /** @throws Fault TOO_MANY_CLIENTS when no further client may follow */
  checkRoom(): void {
    if (this.#clients.size < streamClientLimit && !this.#closed) return;
    throw new Fault("TOO_MANY_CLIENTS", "Too many clients follow the stream", {
      detail: `At most ${streamClientLimit} may.`,
      hint: "Ask another agent, or poll /v1/status.",
    });
  }

  /** Begins to tell this client, until it goes away or the hub closes. */
  follow(response: ServerResponse): void {
    const client: Client = { response, dropped: 0, stalled: 0 };
    this.#clients.add(client);
    const leave = (): void => {
      this.#clients.delete(client);
      if (this.#clients.size > 0) return;
      this.#heartbeat?.cancel();
      this.#heartbeat = null;
    };
    response.on("close", leave);
    response.on("error", leave);
    response.on("drain", () => this.#catchUp(client));
    response.writeHead(200, {
      "content-type": "text/event-stream",
      "cache-control": "no-store",
      "x-accel-buffering": "no",
    });
    response.write(`retry: 2000\n\n${frame("status", this.#service.status())}`);
    this.#heartbeat ??= this.#timers.after(heartbeatMs, () => this.#beat());
  }

  /** Ends every stream. */
  close(): void {
    this.#closed = true;
    this.#unsubscribe();
    this.#statusTimer?.cancel();
    this.#heartbeat?.cancel();
    for (const client of this.#clients) client.response.destroy();
    this.#clients.clear();
  }

  #tell(item: StreamItem): void {
    if (this.#clients.size === 0) return;
    switch (item.kind) {
      case "event":
        this.#broadcast(frame("event", item.event));
        break;
      case "decision":
        this.#broadcast(frame("decision", item.decision));
        break;
      case "status":
        break;
    }
    this.#statusTimer ??= this.#timers.after(statusGatherMs, () => {
      this.#statusTimer = null;
      if (this.#clients.size > 0) this.#broadcast(frame("status", this.#service.status()));
    });
  }

  #broadcast(text: string): void {
    for (const client of this.#clients) {
      if (client.response.writableLength > clientBufferBytes) client.dropped += 1;
      else client.response.write(text);
    }
  }

  /** A client reads again: what it missed is gone, how things stand now is not. */
  #catchUp(client: Client): void {
    client.stalled = 0;
    if (client.dropped === 0) return;
    const dropped = client.dropped;
    client.dropped = 0;
    client.response.write(frame("dropped", { items: dropped }) + frame("status", this.#service.status()));
  }

  #beat(): void {
    for (const client of [...this.#clients]) {
      if (client.response.writableLength <= clientBufferBytes) client.response.write(": alive\n\n");
      else if (++client.stalled >= patience) client.response.destroy();
    }
    this.#heartbeat = this.#clients.size > 0 ? this.#timers.after(heartbeatMs, () => this.#beat()) : null;
  }
}

function frame(event: string, data: unknown): string {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}
