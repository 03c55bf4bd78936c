import { parseSystemIdentifier, type SystemIdentifier } from "../../values/names.ts";
import type { Repository } from "../repository/repository.ts";

/** Which database cluster a name of the repository stands for: made with the first thing stored of it, never changed. */
export interface ClusterIdentity {
  readonly systemIdentifier: SystemIdentifier;
  readonly walSegmentBytes: number;
}

/** What the repository says of a cluster; null = nothing of it was stored yet. @throws Fault BACKUP_DAMAGED, BACKUP_STORE_* */
export async function readIdentity(repository: Repository, cluster: string): Promise<ClusterIdentity | null> {
  const bytes = await repository.read(identityKey(cluster));
  if (bytes === null) return null;
  const value = JSON.parse(bytes.toString("utf8")) as Readonly<Record<string, unknown>>;
  const systemIdentifier = parseSystemIdentifier(String(value["systemIdentifier"]));
  const walSegmentBytes = value["walSegmentBytes"];
  if (systemIdentifier === undefined || typeof walSegmentBytes !== "number") return null;
  return { systemIdentifier, walSegmentBytes };
}

/** Says which cluster it is; @returns what is there: another's, when another was there before. */
export async function claimIdentity(
  repository: Repository,
  cluster: string,
  identity: ClusterIdentity,
): Promise<ClusterIdentity> {
  const text = Buffer.from(`${JSON.stringify(identity)}\n`, "utf8");
  const { outcome } = await repository.write(identityKey(cluster), text, { ifAbsent: true });
  return outcome === "stored" ? identity : ((await readIdentity(repository, cluster)) ?? identity);
}

function identityKey(cluster: string): string {
  return `clusters/${cluster}/identity.json`;
}
