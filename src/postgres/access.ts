import type { Installation } from "./options.ts";
import type { PostgresSettings } from "./instance.ts";

/** The name of the map in the generated pg_ident.conf that lets the agent in. */
const identMap = "pgherd";

/**
 * The generated pg_hba.conf. First what pgherd itself needs: the operating system's user of the agent is the superuser
 * on the unix socket (peer, through a map, so that it works for adopted clusters whose password nobody knows), the
 * replication and rewind roles come in from anywhere with their passwords. Then the cluster's lines, else the user's own
 * file, else everybody with a password. While clients are kept out (P6) only the lines about replication stay of these.
 */
export function renderHba(
  at: Installation,
  settings: PostgresSettings,
  own: OwnAccessFiles,
  major: number,
): string {
  const { superuser, replication, rewind } = at.secrets();
  const local = at.osUser === null ? "scram-sha-256" : `peer map=${identMap}`;
  const lines = settings.hba ?? ownLines(own.hba, `${at.configDir}/pg_hba.conf`, major) ?? openHba;
  return [
    "# Written by pgherd before every start and every reload: changes made here are lost.",
    `local all ${quoteName(superuser.user)} ${local}`,
    `host replication ${quoteName(replication.user)} all scram-sha-256`,
    `host all ${quoteName(rewind.user)} all scram-sha-256`,
    "",
    ...(settings.admission === "everyone" ? lines : [...lines.filter(isReplicationOnly), ...closedHba]),
    "",
  ].join("\n");
}

/** Nobody else, readers neither, until what was committed before the crash is safe again (P6). */
const closedHba: readonly string[] = [
  "# Clients are kept out until enough standbys have all WAL from before the crash; pgherd lets them in by itself.",
  "local all all reject",
  "host all all all reject",
];

/** Whether a line is about physical replication alone; in quotes the word is the name of a database. */
function isReplicationOnly(line: string): boolean {
  return /^\s*(?:local|host\w*)\s+replication\s/.test(line);
}

/** The generated pg_ident.conf: the agent's own map, then the user's file. */
export function renderIdent(at: Installation, own: OwnAccessFiles, major: number): string {
  const { superuser } = at.secrets();
  return [
    "# Written by pgherd before every start and every reload: changes made here are lost.",
    ...(at.osUser === null ? [] : [`${identMap} ${quoteName(at.osUser)} ${quoteName(superuser.user)}`]),
    ...(ownLines(own.ident, `${at.configDir}/pg_ident.conf`, major) ?? []),
    "",
  ].join("\n");
}

/** Lines for clients of a cluster made by pgherd: anybody with a password. */
export const openHba: readonly string[] = [
  "local all all scram-sha-256",
  "host all all 0.0.0.0/0 scram-sha-256",
  "host all all ::/0 scram-sha-256",
];

/** The user's own files as they are now; null where there is none. */
export interface OwnAccessFiles {
  readonly hba: string | null;
  readonly ident: string | null;
}

/** A passfile for these roles on one server; without one on every server. */
export function renderPassfile(
  roles: readonly { readonly user: string; readonly password: { reveal(): string } }[],
  server?: { readonly host: string; readonly port: number },
): string {
  const escape = (text: string): string => text.replace(/[\\:]/g, "\\$&");
  const place = server === undefined ? "*:*" : `${escape(server.host)}:${server.port}`;
  return roles.map((role) => `${place}:*:${escape(role.user)}:${escape(role.password.reveal())}\n`).join("");
}

/** From version 16 on the file is included, so that relative names in it keep their meaning; before, it is copied. */
function ownLines(content: string | null, path: string, major: number): readonly string[] | null {
  if (content === null) return null;
  return major >= 16 ? [`include ${quoteName(path)}`] : content.split("\n");
}

function quoteName(name: string): string {
  return `"${name}"`;
}
