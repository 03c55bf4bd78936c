import { Fault } from "../values/fault.ts";
import { formatLsn, parseLsn, type Lsn } from "../values/lsn.ts";
import { readJson, writeDurably } from "./durable-file.ts";
import type { Installation } from "./options.ts";
import { localTarget, sqlState, withSql, type SqlClient } from "./sql.ts";

interface Slot {
  readonly name: string;
  readonly physical: boolean;
  active: boolean;
  readonly restartLsn: Lsn | null;
  readonly lost: boolean;
}

/** A slot that is just being used or was just taken. */
const objectInUse = "55006";
const allSlotsInUse = "53400";

/**
 * Makes exactly the wanted of pgherd's own physical slots exist. On a standby they are moved to the given positions,
 * so that they hold the WAL their members need also after this node is promoted. Slots pgherd never wanted are not
 * touched; one that is in use is dropped when it no longer is: of those in `evicted` the user is ended.
 * @throws Fault TOO_FEW_SLOTS, POSTGRES_UNREACHABLE, POSTGRES_QUERY_FAILED
 */
export async function syncSlots(
  at: Installation,
  wanted: ReadonlyMap<string, Lsn | null>,
  evicted: ReadonlySet<string> = new Set(),
): Promise<void> {
  const remembered = await ownedNames(at);
  const owned = new Set([...remembered, ...wanted.keys()]);
  if (owned.size > remembered.size) await remember(at, owned);
  const kept = await withSql(localTarget(at, at.timeouts.statementMs), async (client) => {
    const slots = new Map((await listSlots(client)).map((slot) => [slot.name, slot]));
    for (const [name, position] of wanted) await ensureSlot(client, name, slots.get(name) ?? null, position);
    const obsolete = [...slots.values()].filter((slot) => owned.has(slot.name) && !wanted.has(slot.name));
    const left = [];
    for (const slot of obsolete) {
      if (slot.active && evicted.has(slot.name)) slot.active = !(await evict(client, slot.name));
      if (!slot.physical || slot.active || !(await drop(client, slot.name))) left.push(slot.name);
    }
    return left;
  });
  const now = new Set([...wanted.keys(), ...kept]);
  if (now.size !== owned.size) await remember(at, now);
}

async function ensureSlot(
  client: SqlClient,
  name: string,
  found: Slot | null,
  position: Lsn | null,
): Promise<void> {
  let slot = found;
  if (slot?.lost === true && !slot.active && (await drop(client, name))) slot = null;
  if (slot === null) slot = await create(client, name);
  if (position === null || slot.active || slot.restartLsn === null || position <= slot.restartLsn) return;
  // PostgreSQL itself never moves it past its own flushed or replayed WAL.
  await unlessInUse(
    client.query("select pg_replication_slot_advance($1, $2::pg_lsn)", [name, formatLsn(position)]),
  );
}

async function create(client: SqlClient, name: string): Promise<Slot> {
  try {
    const result = await client.query<{ lsn: string | null }>(
      "select lsn::text from pg_create_physical_replication_slot($1, true)",
      [name],
    );
    const restartLsn = parseLsn(result.rows[0]?.lsn ?? "") ?? null;
    return { name, physical: true, active: false, restartLsn, lost: false };
  } catch (error) {
    if (sqlState(error) !== allSlotsInUse) throw error;
    throw new Fault("TOO_FEW_SLOTS", `There is no free replication slot for "${name}"`, {
      detail: error instanceof Error ? error.message : String(error),
      hint: "Raise max_replication_slots in the cluster settings and restart, or drop an unused slot.",
      cause: error,
    });
  }
}

/** How long the end of a walsender is waited for. */
const evictMs = 2000;

async function evict(client: SqlClient, name: string): Promise<boolean> {
  const result = await client.query<{ ended: boolean }>(
    "select pg_terminate_backend(active_pid, $2) as ended from pg_replication_slots where slot_name = $1 and active",
    [name, evictMs],
  );
  return result.rows.every((row) => row.ended);
}

async function drop(client: SqlClient, name: string): Promise<boolean> {
  return unlessInUse(client.query("select pg_drop_replication_slot($1)", [name]));
}

async function unlessInUse(work: Promise<unknown>): Promise<boolean> {
  try {
    await work;
    return true;
  } catch (error) {
    if (sqlState(error) === objectInUse) return false;
    throw error;
  }
}

async function listSlots(client: SqlClient): Promise<readonly Slot[]> {
  const result = await client.query<{
    name: string;
    type: string;
    active: boolean;
    lsn: string | null;
    lost: boolean;
  }>(
    `select slot_name as name, slot_type as type, active, restart_lsn::text as lsn,
       coalesce(wal_status = 'lost', false) as lost from pg_replication_slots`,
  );
  return result.rows.map((row) => ({
    name: row.name,
    physical: row.type === "physical",
    active: row.active,
    restartLsn: parseLsn(row.lsn ?? "") ?? null,
    lost: row.lost,
  }));
}

async function ownedNames(at: Installation): Promise<ReadonlySet<string>> {
  const names = (await readJson(at.files.slots))?.["names"];
  return new Set(Array.isArray(names) ? names.map(String) : []);
}

async function remember(at: Installation, names: ReadonlySet<string>): Promise<void> {
  await writeDurably(at.files.slots, JSON.stringify({ names: [...names].sort() }));
}
