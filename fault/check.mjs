// What the ledger says, beside what the surviving cluster has. Pure.

/**
 * @typedef {object} Verdict
 * @property {number} acknowledged
 * @property {number[]} lost acknowledged while the cluster was recorded as protected, and not there
 * @property {number[]} lostUnprotected acknowledged while it was recorded as unprotected, and not there
 * @property {number[]} duplicated there more often than once
 * @property {number[]} strange there although refused, or never sent
 * @property {number[]} invisible acknowledged, there in the end, but a primary of their timeline or a newer one did not show them
 * @property {number} stale reads that an older primary answered without a row that a newer one had acknowledged
 * @property {number} unfenced of these, those by a primary whose lease must have ended by then
 * @property {number} unknown rows whose outcome no client knows
 * @property {number[]} overlaps acknowledged by an older timeline although sent after a newer one had acknowledged
 * @property {number[]} late acknowledged by an older timeline, sent before but answered clearly after a newer one had
 * @property {number} outageMs
 */

/** Shorter gaps without an error are a busy disk. */
const noticeableMs = 500;
/** The client reads answers in the order they come; what it reads this much later was sent later. */
const clearlyMs = 100;

/** What a guard may need from the deadline on, on a busy machine. */
const stopMs = 1000;

/**
 * @param {object} given
 * @param {import("./ledger-file.mjs").Entry[]} given.entries
 * @param {Map<number, number>} given.rows how often each row is there
 * @param {{at: number, protected: boolean}[]} given.records what the durability record said, by time
 * @param {number} given.mark when the fault struck
 * @param {number} given.end when the client was ended
 * @param {number} given.ttlMs length of the lease
 * @returns {Verdict}
 */
export function check({ entries, rows, records, mark, end, ttlMs }) {
  const sent = new Map();
  const acks = new Map();
  const refused = new Set();
  for (const { kind, id, at, timeline } of entries) {
    if (kind === "I") sent.set(id, at);
    if (kind === "A") acks.set(id, { at, timeline });
    if (kind === "F") refused.add(id);
  }
  const missing = [...acks.keys()].filter((id) => !rows.has(id));
  const lost = missing.filter((id) => wasProtected(records, acks.get(id).at));
  const firsts = firstAcks(acks);
  const newest = (before) =>
    Math.max(0, ...[...firsts].filter(([, at]) => at < before).map(([timeline]) => timeline));
  const overlaps = [...acks].filter(([id, { timeline }]) => newest(sent.get(id)) > timeline);
  const late = [...acks].filter(
    ([id, { at, timeline }]) => newest(sent.get(id)) <= timeline && newest(at - clearlyMs) > timeline,
  );
  const misses = entries.filter(({ kind, id }) => kind === "M" && rows.has(id));
  const stale = misses.filter(({ id, timeline }) => timeline < acks.get(id).timeline);
  const hidden = new Set(misses.filter((miss) => !stale.includes(miss)).map(({ id }) => id));
  return {
    acknowledged: acks.size,
    lost,
    lostUnprotected: missing.filter((id) => !lost.includes(id)),
    duplicated: [...rows].filter(([, count]) => count > 1).map(([id]) => id),
    strange: [...rows.keys()].filter((id) => refused.has(id) || !sent.has(id)),
    invisible: [...hidden],
    stale: stale.length,
    unfenced: stale.filter(({ at, id }) => at > firsts.get(acks.get(id).timeline) + ttlMs + stopMs).length,
    unknown: [...sent.keys()].filter((id) => !acks.has(id) && !refused.has(id)).length,
    overlaps: overlaps.map(([id]) => id),
    late: late.map(([id]) => id),
    outageMs: outage(entries, acks, mark, end),
  };
}

/** When each timeline acknowledged first. */
function firstAcks(acks) {
  const firsts = new Map();
  for (const { at, timeline } of acks.values())
    firsts.set(timeline, Math.min(at, firsts.get(timeline) ?? Infinity));
  return firsts;
}

/**
 * Whether a row counts as protected: the record said so last before its acknowledgement came. Who waits for standbys that are
 * gone is answered only after the record has said that nothing is waited for any more. What nothing was recorded of counts
 * too: doubt is not an excuse.
 */
function wasProtected(records, acknowledgedAt) {
  return records.findLast((record) => record.at <= acknowledgedAt)?.protected ?? true;
}

/** The longest time between two acknowledgements in a row (or after the last) that reaches beyond the mark. */
function outage(entries, acks, mark, end) {
  const times = [...[...acks.values()].map(({ at }) => at).toSorted((a, b) => a - b), end];
  let longest = 0;
  for (let index = 1; index < times.length; index += 1)
    if (times[index] > mark) longest = Math.max(longest, times[index] - times[index - 1]);
  const failed = entries.some(({ kind, at }) => (kind === "U" || kind === "F") && at > mark);
  return longest > noticeableMs || failed ? longest : 0;
}
