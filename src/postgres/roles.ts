import type { Installation, PostgresRoleSecret } from "./options.ts";
import { scramVerifier, verifierMatches } from "./scram-verifier.ts";
import { localTarget, withSql, type SqlClient } from "./sql.ts";

/** What pg_rewind needs on its source besides a login, as its manual page lists it. */
const rewindFunctions = [
  "pg_ls_dir(text, boolean, boolean)",
  "pg_stat_file(text, boolean)",
  "pg_read_binary_file(text)",
  "pg_read_binary_file(text, bigint, bigint, boolean)",
] as const;

/**
 * Makes the roles, or corrects what differs; writes nothing when all is as it should be. A superuser who already has a
 * password keeps it: it may be in use elsewhere.
 * @throws Fault POSTGRES_UNREACHABLE, POSTGRES_AUTHENTICATION, POSTGRES_QUERY_FAILED
 */
export async function ensureRoles(at: Installation): Promise<void> {
  const { superuser, replication, rewind } = at.secrets();
  await withSql(localTarget(at, at.timeouts.statementMs), async (client) => {
    // Not even verifiers belong into the server's log.
    await client.query(
      "set log_statement = 'none'; set log_min_duration_statement = -1; set log_min_error_statement = panic",
    );
    await ensureSuperuserPassword(at, client, superuser);
    await ensureRole(client, replication, "login replication");
    await ensureRole(client, rewind, "login");
    await grantRewind(client, rewind.user);
  });
}

async function ensureSuperuserPassword(
  at: Installation,
  client: SqlClient,
  role: PostgresRoleSecret,
): Promise<void> {
  const found = await storedRole(client, role.user);
  if (found?.verifier === null) await setPassword(client, role);
  else if (found !== null && !verifierMatches(found.verifier, role.password))
    at.log("postgres.superuser.password.kept", { role: role.user });
}

async function ensureRole(client: SqlClient, role: PostgresRoleSecret, attributes: string): Promise<void> {
  const found = await storedRole(client, role.user);
  if (found === null) await client.query(`create role ${client.escapeIdentifier(role.user)} ${attributes}`);
  else if (!found.login || found.replication !== attributes.includes("replication"))
    await client.query(`alter role ${client.escapeIdentifier(role.user)} ${attributes}`);
  if (found?.verifier == null || !verifierMatches(found.verifier, role.password))
    await setPassword(client, role);
}

async function grantRewind(client: SqlClient, user: string): Promise<void> {
  const role = client.escapeIdentifier(user);
  for (const name of rewindFunctions) {
    const granted = await client.query("select 1 where has_function_privilege($1, $2, 'execute')", [
      user,
      name,
    ]);
    if (granted.rows.length === 0) await client.query(`grant execute on function ${name} to ${role}`);
  }
  // pg_checkpoint exists from version 15 on; before, the new primary's own agent makes the checkpoint.
  const missing = await client.query<{ name: string }>(
    `select rolname as name from pg_roles where rolname in ('pg_monitor', 'pg_checkpoint')
       and not pg_has_role($1, oid, 'member')`,
    [user],
  );
  for (const { name } of missing.rows)
    await client.query(`grant ${client.escapeIdentifier(name)} to ${role}`);
}

/** What is stored of a role's password; undefined = no such role. Nothing of it gets into the server's log. */
export async function roleVerifier(at: Installation, role: string): Promise<string | null | undefined> {
  return withSql(localTarget(at, at.timeouts.statementMs), async (client) => {
    const found = await storedRole(client, role);
    return found === null ? undefined : found.verifier;
  });
}

interface StoredRole {
  readonly login: boolean;
  readonly replication: boolean;
  readonly verifier: string | null;
}

async function storedRole(client: SqlClient, user: string): Promise<StoredRole | null> {
  const result = await client.query<StoredRole>(
    "select rolcanlogin as login, rolreplication as replication, rolpassword as verifier from pg_authid where rolname = $1",
    [user],
  );
  return result.rows[0] ?? null;
}

async function setPassword(client: SqlClient, role: PostgresRoleSecret): Promise<void> {
  const verifier = client.escapeLiteral(scramVerifier(role.password));
  await client.query(`alter role ${client.escapeIdentifier(role.user)} password ${verifier}`);
}
