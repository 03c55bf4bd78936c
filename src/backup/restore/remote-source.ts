import type { Log } from "../../agent/context.ts";
import type { Clock } from "../../system/clock.ts";
import type { Timers } from "../../system/timers.ts";
import { Fault } from "../../values/fault.ts";
import { openCatalogue } from "../catalogue/catalogue.ts";
import { HttpStore } from "../repository/http-store.ts";
import { openRepository } from "../repository/open.ts";
import { readKeyFile } from "../open.ts";
import { faultOf, ServerRequests, type ServerAddress } from "../server-requests.ts";
import { openArchive } from "../wal/open-archive.ts";
import { segmentName, segmentNumberAt } from "../wal/segment-name.ts";
import { liveSegments } from "./live-segments.ts";
import type { OpenedSource } from "./open-source.ts";
import { wordOf, type ServerWord } from "./server-word.ts";

export interface RemoteRepository extends ServerAddress {
  readonly cluster: string;
  /** Of an encrypted repository: its objects come sealed, and the server gives its key to nobody. null = not encrypted. */
  readonly keyFile: string | null;
}

interface RemotePorts {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
}

/** PostgreSQL's largest segment. */
const mostSegmentBytes = 1 << 30;
const mostStatusBytes = 8 << 20;
/** A receiver that is further ahead of its archive is not asked for each segment by name. */
const mostLive = 4_096;

/**
 * Opens a cluster of a backup server over HTTP, with what its receiver has: a restore runs on any host that reaches the server.
 * @throws Fault UNAUTHORIZED, NOT_FOUND, BACKUP_*, CONFIG_UNREADABLE
 */
export async function openRemoteSource(from: RemoteRepository, ports: RemotePorts): Promise<OpenedSource> {
  const { cluster } = from;
  const { clock, timers, log } = ports;
  const server = new ServerRequests(from, timers);
  try {
    const word = await askWord(server, cluster);
    const key = from.keyFile === null ? null : await readKeyFile(from.keyFile);
    const repository = await openRepository(new HttpStore(server), { key, clock, timers }).catch(withKeyHint);
    const files = `/v1/clusters/${encodeURIComponent(cluster)}/wal/files`;
    const received = async (name: string): Promise<Buffer | null> => {
      const path = `${files}/${name}?partial=true`;
      const answer = await server.send({ method: "GET", path, limitBytes: mostSegmentBytes });
      if (answer.status === 200) return answer.body;
      if (answer.status === 404) return null;
      throw faultOf(answer, server.url);
    };
    const archive = await openArchive({ repository, cluster, clock, log, live: received });
    const catalogue = await openCatalogue({ repository, cluster, log });
    return {
      repository,
      catalogue,
      archive,
      current: word.current,
      completeUntil: word.completeUntil,
      live: () => {
        const { segmentBytes } = archive;
        if (segmentBytes === null) return Promise.resolve([]);
        const names = receivedNames(word, segmentBytes).filter((name) => archive.segment(name) === null);
        return liveSegments(names, received, segmentBytes, clock);
      },
      close: async () => {
        await archive.close();
        await repository.close();
      },
    };
  } catch (thrown) {
    server.close();
    throw thrown;
  }
}

async function askWord(server: ServerRequests, cluster: string): Promise<ServerWord> {
  const path = `/v1/clusters/${encodeURIComponent(cluster)}/status`;
  const answer = await server.send({ method: "GET", path, limitBytes: mostStatusBytes });
  if (answer.status !== 200) throw faultOf(answer, server.url);
  return wordOf(JSON.parse(answer.body.toString("utf8")));
}

/** Segments the receiver may have beside the archive, the one it is writing with them. */
function receivedNames({ received }: ServerWord, segmentBytes: number): readonly string[] {
  if (received === null) return [];
  const { timeline, from, to } = received;
  const names: string[] = [];
  const last = segmentNumberAt(to, segmentBytes);
  for (let number = segmentNumberAt(from, segmentBytes); number <= last; number += 1n) {
    if (names.length === mostLive) break;
    names.push(segmentName({ timeline, number }, segmentBytes));
  }
  return names;
}

function withKeyHint(thrown: unknown): never {
  if (!(thrown instanceof Fault) || thrown.code !== "BACKUP_KEY_WRONG") throw thrown;
  throw new Fault(thrown.code, thrown.message, {
    hint: "The backup server hands out what it stores, sealed: name a copy of its key file (--key-file, or backup.key_file of the node file).",
    cause: thrown,
  });
}
