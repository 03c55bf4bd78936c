import { Fault } from "../../../src/values/fault.ts";
import type { Timers } from "../../../src/system/timers.ts";
import type { SimProcess } from "../engine.ts";
import type { Upstream } from "../../../src/postgres/instance.ts";
import type { Postgres } from "./postgres.ts";
import type { Server } from "./server.ts";

/** Limit of an ordinary statement. */
export const statementMs = 5_000;

const unreachable = (detail: string): Fault =>
  new Fault("POSTGRES_UNREACHABLE", "PostgreSQL does not answer", { detail });

/** How an agent's process reaches servers: with limits, and never past its own death. */
export class Calls {
  readonly postgres: Postgres;
  readonly process: SimProcess;
  readonly timers: Timers;

  constructor(postgres: Postgres, process: SimProcess) {
    this.postgres = postgres;
    this.process = process;
    this.timers = postgres.host.timers(process);
  }

  /** Lets the agent's process do something that takes this long. */
  pause(ms: number): Promise<void> {
    return new Promise((resolve) => void this.process.after(ms, resolve));
  }

  /** A durable write of the agent. */
  write(): Promise<void> {
    return new Promise((resolve, reject) =>
      this.postgres.host.disk.sync(this.process, () => {
        if (this.postgres.host.disk.full) reject(new Fault("INTERNAL", "No space left on device"));
        else resolve();
      }),
    );
  }

  /** A statement on the local server; `done` is called with the answer. @throws Fault POSTGRES_UNREACHABLE, TIMEOUT */
  sql<T>(limitMs: number, work: (server: Server, done: (answer: T) => void) => void): Promise<T> {
    const { server } = this.postgres;
    if (server === null) return Promise.reject(unreachable("No server runs."));
    return this.#ask(server, server.node, limitMs, work);
  }

  /** A statement on another server. @throws Fault POSTGRES_UNREACHABLE, TIMEOUT */
  remote<T>(
    at: Upstream,
    limitMs: number,
    work: (server: Server, done: (answer: T) => void) => void,
  ): Promise<T> {
    const there = this.postgres.net.at(at.host, at.port);
    if (there === undefined) return Promise.reject(unreachable(`There is no ${at.host}:${at.port}.`));
    const { server } = there;
    if (
      server === null &&
      there.host.up &&
      this.postgres.net.network.isOpen(this.postgres.host.name, at.host)
    )
      return this.pause(2).then(() => Promise.reject(unreachable("Connection refused.")));
    return this.#ask(server, there.host.name, limitMs, work);
  }

  #ask<T>(
    server: Server | null,
    place: string,
    limitMs: number,
    work: (server: Server, done: (answer: T) => void) => void,
  ): Promise<T> {
    const { network } = this.postgres.net;
    const own = this.postgres.host.name;
    return new Promise((resolve, reject) => {
      let ended = false;
      const limit = this.timers.after(limitMs, () =>
        reject(
          new Fault("POSTGRES_UNREACHABLE", `PostgreSQL did not answer within ${Math.round(limitMs)} ms`),
        ),
      );
      const end = (settle: () => void): void =>
        network.send(place, own, () =>
          this.process.deliver(() => {
            limit.cancel();
            if (!ended) settle();
            ended = true;
          }),
        );
      if (server === null) return;
      server.process.onDeath(() => end(() => reject(unreachable("The connection was closed."))));
      network.send(own, place, () =>
        server.process.deliver(() => {
          if (!server.accepting || server.stopping)
            end(() => reject(unreachable("It does not accept connections.")));
          else work(server, (answer) => end(() => resolve(answer)));
        }),
      );
    });
  }
}
