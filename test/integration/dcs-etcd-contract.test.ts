import { dcsContract, type ContractStore } from "../../src/dcs/dcs.contract.ts";
import type { Dcs } from "../../src/dcs/dcs.ts";
import { Secret } from "../../src/values/secret.ts";
import { etcdClient } from "../support/dcs-load.ts";
import { startEtcd, type EtcdOptions } from "../support/etcd.ts";
import { startRelay, type Relay } from "../support/relay.ts";

async function startStore(options: EtcdOptions): Promise<ContractStore> {
  const etcd = await startEtcd(options);
  const login =
    options.auth === undefined
      ? {}
      : { username: options.auth.username, password: new Secret(options.auth.password) };
  const scheme = etcd.clientTls === undefined ? "http" : "https";
  const relays: Relay[] = [];
  const connect = (endpoints: string[], prefix: string): Dcs =>
    etcdClient({ endpoints, prefix, tls: etcd.clientTls, ...login });
  return {
    connect: (prefix) => connect(etcd.endpoints, prefix),
    connectBreakable: async (prefix) => {
      const mine = await Promise.all(
        etcd.endpoints.map((endpoint) => startRelay(Number(new URL(endpoint).port))),
      );
      relays.push(...mine);
      const endpoints = mine.map((relay) => `${scheme}://127.0.0.1:${String(relay.port)}`);
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

const auth = { rootPassword: "root", username: "pgherd", password: "secret", prefix: "/service/" };

dcsContract("etcd, one member", () => startStore({}));
dcsContract("etcd, three members", () => startStore({ members: 3 }));
dcsContract("etcd with TLS, client certificates and a login", () => startStore({ tls: "mutual", auth }));
