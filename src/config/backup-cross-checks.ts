import type { BackupFile } from "./backup-file-schema.ts";
import { clusterEntries } from "./backup-settings.ts";
import type { Issue } from "./issues.ts";
import type { DocumentPath } from "./problem.ts";

/** Mistakes of a backup file that only show when several keys are looked at together. */
export function crossCheckBackup(file: BackupFile): Issue[] {
  return [...checkClusters(file), ...checkPlaces(file)];
}

function value(path: DocumentPath, message: string): Issue {
  return { kind: "value", path, message };
}

function checkClusters(file: BackupFile): Issue[] {
  if (file.cluster !== undefined && file.clusters !== undefined)
    return [value(["cluster"], "stands beside clusters: name the cluster there")];
  const entries = clusterEntries(file);
  if (entries.length === 0)
    return [{ kind: "missing", path: ["cluster"], message: "required key is missing" }];
  return entries.flatMap(([name, entry]) => {
    const at = (key: string): DocumentPath => (file.clusters === undefined ? [key] : ["clusters", name, key]);
    const dcs = entry.dcs ?? file.dcs;
    const hosts = entry.connection?.hosts ?? file.connection?.hosts;
    if (dcs === undefined && hosts === undefined)
      return [value(at("dcs"), "names no cluster: add dcs, or connection.hosts where there are no agents")];
    const connection = { ...file.connection, ...entry.connection };
    if (connection.user === undefined && (hosts !== undefined || connection.password_file !== undefined))
      return [value(at("connection"), "needs connection.user")];
    return [];
  });
}

/** Copies that would be the repository itself protect nothing. */
function checkPlaces(file: BackupFile): Issue[] {
  const places = [file.repository, ...file.copies].map((one) =>
    one.path === undefined ? JSON.stringify(one.s3) : one.path,
  );
  return places.flatMap((place, index) =>
    index > 0 && places.indexOf(place) < index
      ? [value(["copies", index - 1], "is the same place as another repository")]
      : [],
  );
}
