import { readFile } from "node:fs/promises";
import type { NodeConfig } from "../config/node-config.ts";
import type { Dcs } from "./dcs.ts";
import { createEtcdDcs, type EtcdLogger } from "./etcd/etcd-dcs.ts";
import type { Clock } from "../system/clock.ts";
import type { Timers } from "../system/timers.ts";
import { Fault } from "../values/fault.ts";
import { Secret } from "../values/secret.ts";

/** What the adapter needs besides the node file. */
export interface DcsPorts {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly logger?: EtcdLogger;
  /** Only these endpoints instead of all. */
  readonly endpoints?: readonly string[];
}

/** What leads to a cluster's keys. */
export type StoreNames = Pick<NodeConfig, "cluster" | "namespace" | "dcs">;

/** Opens the store that a file of a node or of a router names. @throws Fault CONFIG_UNREADABLE */
export async function openDcs(config: StoreNames, ports: DcsPorts): Promise<Dcs> {
  const { dcs } = config;
  return createEtcdDcs({
    endpoints: ports.endpoints ?? dcs.endpoints,
    prefix: `/${config.namespace}/${config.cluster}/`,
    tls:
      dcs.tls === null
        ? undefined
        : {
            caFile: dcs.tls.caFile ?? undefined,
            certFile: dcs.tls.certFile ?? undefined,
            keyFile: dcs.tls.keyFile ?? undefined,
          },
    username: dcs.username ?? undefined,
    password: dcs.passwordFile === null ? undefined : await readPassword(dcs.passwordFile),
    clock: ports.clock,
    timers: ports.timers,
    ...(ports.logger !== undefined && { logger: ports.logger }),
  });
}

async function readPassword(file: string): Promise<Secret> {
  try {
    return new Secret((await readFile(file, "utf8")).trim());
  } catch (thrown) {
    throw new Fault("CONFIG_UNREADABLE", "The file with the password of the DCS cannot be read", {
      detail: thrown instanceof Error ? thrown.message : file,
      hint: "Run this as the user the agent runs as, or as root.",
      cause: thrown,
    });
  }
}
