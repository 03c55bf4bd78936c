import { readFile } from "node:fs/promises";
import type { NodeConfig } from "../config/node-config.ts";
import type { Dcs } from "../dcs/dcs.ts";
import { createEtcdDcs } from "../dcs/etcd/etcd-dcs.ts";
import { Fault } from "../values/fault.ts";
import { Secret } from "../values/secret.ts";
import type { CliIo } from "./io.ts";

/** Opens the store of a node file, or only some of its endpoints. @throws Fault CONFIG_UNREADABLE */
export async function openDcs(
  config: NodeConfig,
  io: Pick<CliIo, "clock" | "timers">,
  endpoints: readonly string[] = config.dcs.endpoints,
): Promise<Dcs> {
  const { dcs } = config;
  return createEtcdDcs({
    endpoints,
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
    clock: io.clock,
    timers: io.timers,
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
