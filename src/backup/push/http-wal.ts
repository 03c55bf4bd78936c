import type { Timers } from "../../system/timers.ts";
import type { FencingToken } from "../../values/names.ts";
import { historyFileName } from "../../postgres/timelines.ts";
import { faultOf, ServerRequests, type ServerAddress } from "../server-requests.ts";
import { gapJson } from "../wal/small-records.ts";
import type { WalPort } from "./wal-port.ts";

export interface HttpWalOptions extends ServerAddress {
  readonly cluster: string;
  readonly source: string;
  readonly timers: Timers;
}

/** The largest segment PostgreSQL knows. */
const mostBytes = 1 << 30;
const mostWordsBytes = 65_536;

/** The archive of a backup server over HTTP (README.md of src/backup: its paths). What fails is tried again by who asks. */
export function httpWal(options: HttpWalOptions): WalPort & { close(): void } {
  const server = new ServerRequests(options, options.timers, { attempts: 1 });
  const root = `/v1/clusters/${encodeURIComponent(options.cluster)}/wal`;
  const put = async (name: string, body: Uint8Array, token: FencingToken | null): Promise<string> => {
    const headers = {
      "content-type": "application/octet-stream",
      "x-pgherd-source": options.source,
      ...(token === null ? {} : { "x-pgherd-token": String(token) }),
    };
    const path = `${root}/files/${name}`;
    const answer = await server.send({ method: "PUT", path, headers, body, limitBytes: mostWordsBytes });
    if (answer.status !== 200) throw faultOf(answer, server.url);
    const value = JSON.parse(answer.body.toString("utf8")) as { readonly outcome?: unknown };
    return String(value.outcome);
  };
  return {
    fetch: async (name, { partial, towards, signal }) => {
      const query = new URLSearchParams({ partial: String(partial) });
      if (towards !== null && towards !== undefined) query.set("towards", String(towards));
      const path = `${root}/files/${name}?${query.toString()}`;
      const answer = await server.send({ method: "GET", path, limitBytes: mostBytes, signal });
      if (answer.status === 200) return answer.body;
      const fault = faultOf(answer, server.url);
      if (fault.code === "BACKUP_WAL_UNKNOWN") return null;
      throw fault;
    },
    store: async ({ name, bytes, token }) => {
      const outcome = await put(name, bytes, token);
      return outcome === "conflict" || outcome === "identical" ? outcome : "stored";
    },
    storeHistory: async (timeline, text, token) => {
      await put(historyFileName(timeline), Buffer.from(text, "utf8"), token);
    },
    recordGap: async (gap) => {
      const headers = { "content-type": "application/json" };
      const question = { path: `${root}/gaps`, headers, body: gapJson(gap), limitBytes: mostWordsBytes };
      const answer = await server.send({ method: "POST", ...question });
      if (answer.status >= 300) throw faultOf(answer, server.url);
    },
    close: () => server.close(),
  };
}
