import type { Peers, Pulse } from "../../src/agent/peers.ts";
import type { SimProcess } from "./engine.ts";
import type { Host } from "./host.ts";
import type { Network } from "./network.ts";
import type { SimNode } from "./node.ts";

export interface PeersParts {
  readonly host: Host;
  readonly network: Network;
  /** Who asks. */
  readonly process: SimProcess;
  readonly find: (node: string) => SimNode | undefined;
}

/** How an agent, or a WAL receiver, reaches the agents and their PostgreSQL. */
export function simulatedPeers({ host, network, process, find }: PeersParts): Peers {
  const ask = <T>(
    node: string,
    limitMs: number,
    silent: T,
    answer: (there: SimNode) => [SimProcess, T] | null,
  ): Promise<T> =>
    new Promise((resolve) => {
      const limit = host.timers(process).after(limitMs, () => resolve(silent));
      const there = find(node);
      if (there === undefined) return;
      network.send(host.name, node, () => {
        const found = answer(there);
        found?.[0].deliver(() =>
          network.send(node, host.name, () =>
            process.deliver(() => {
              limit.cancel();
              resolve(found[1]);
            }),
          ),
        );
      });
    });
  return {
    pulse: (node, limitMs) =>
      ask<Pulse | null>(node.name, limitMs, null, ({ agent, daemon }) =>
        agent === null || daemon === null ? null : [agent, { node: node.name, postgres: true }],
      ),
    grant: (node, grant, limitMs) =>
      new Promise((resolve) => {
        const limit = host.timers(process).after(limitMs, () => resolve("no answer"));
        network.send(host.name, node.name, () => {
          const there = find(node.name);
          const { agent, daemon } = there ?? { agent: null, daemon: null };
          if (agent === null || daemon === null) return;
          const reply = (refusal: string | null): void =>
            network.send(node.name, host.name, () =>
              process.deliver(() => {
                limit.cancel();
                resolve(refusal);
              }),
            );
          agent.deliver(() => {
            daemon.service.grant(grant).then(
              () => reply(null),
              (thrown: unknown) => reply(String(thrown)),
            );
          });
        });
      }),
    answersPostgres: (node, limitMs) =>
      ask(node.name, limitMs, false, ({ postgres: { server } }) =>
        server === null ? null : [server.process, true],
      ),
  };
}
