import { systemClock } from "../../src/system/clock.ts";
import { systemTimers } from "../../src/system/timers.ts";
import { dcsContract, type ContractStore } from "../../src/dcs/dcs.contract.ts";
import { createEtcdDcs } from "../../src/dcs/etcd/etcd-dcs.ts";
import { startEtcd } from "../support/etcd.ts";
import { startRelay, type Relay } from "../support/relay.ts";

async function startStore(members: number): Promise<ContractStore> {
  const etcd = await startEtcd({ members });
  const relays: Relay[] = [];
  const connect = (endpoints: string[], prefix: string): ReturnType<typeof createEtcdDcs> =>
    createEtcdDcs({ endpoints, prefix, clock: systemClock, timers: systemTimers });
  return {
    connect: (prefix) => connect(etcd.endpoints, prefix),
    connectBreakable: async (prefix) => {
      const mine = await Promise.all(
        etcd.endpoints.map((endpoint) => startRelay(Number(new URL(endpoint).port))),
      );
      relays.push(...mine);
      const endpoints = mine.map((relay) => `http://127.0.0.1:${String(relay.port)}`);
      return {
        dcs: connect(endpoints, prefix),
        break: () => void Promise.all(mine.map((relay) => relay.set("hold"))),
        heal: () => void Promise.all(mine.map((relay) => relay.set("open"))),
      };
    },
    compact: async () => {
      const status = JSON.parse(await etcd.ctl("endpoint", "status", "-w", "json")) as {
        Status: { header: { revision: number } };
      }[];
      await etcd.ctl("compact", String(Math.max(...status.map((member) => member.Status.header.revision))));
    },
    stop: async () => {
      await Promise.all(relays.map((relay) => relay.stop()));
      await etcd.stop();
    },
  };
}

dcsContract("etcd, one member", () => startStore(1));
dcsContract("etcd, three members", () => startStore(3));
