// The rounds as one result: for programs, and as lines for people.

const seconds = (ms) => Number((ms / 1000).toFixed(2));

/** @param {import("./backup-rounds.mjs").KillRound[]} rounds */
export function resultOf(rounds, { commit, seed, wanted }) {
  const of = (kind) => rounds.filter((round) => round.kind === kind).length;
  const proofs = rounds.flatMap(({ proof }) => (proof === null ? [] : [proof]));
  const outages = rounds
    .flatMap(({ outageMs }) => (outageMs === null ? [] : [outageMs]))
    .toSorted((a, b) => a - b);
  // Each proof looks at all rows of its cluster so far: the sum would count them again and again.
  const most = (key) => Math.max(0, ...proofs.map((proof) => proof[key]));
  return {
    ...{ commit, seed, wanted, rounds: rounds.length },
    kills: { postmaster: of("postmaster"), host: of("host"), site: of("site") },
    restores: proofs.length,
    acknowledged: most("acknowledged"),
    unknown: most("unknown"),
    lost: most("lost"),
    duplicated: most("duplicated"),
    strange: most("strange"),
    outage:
      outages.length === 0
        ? null
        : { median: seconds(outages[Math.floor(outages.length / 2)]), worst: seconds(outages.at(-1)) },
    restore_s: { worst: most("seconds") },
    bad: rounds.filter((round) => round.bad).length,
  };
}

/** For people. */
export function resultLines(result) {
  const { kills, outage } = result;
  return [
    `${result.rounds} of ${result.wanted} kills of the primary under load: ${kills.postmaster} postmasters, ${kills.host} hosts, ${kills.site} with everything else`,
    `${result.restores} restores from the repository alone, at most ${result.restore_s.worst} s`,
    `${result.acknowledged} acknowledged rows: ${result.lost} lost, ${result.duplicated} twice, ${result.strange} strange (${result.unknown} of unknown outcome)`,
    ...(outage === null
      ? []
      : [`writes stood still for ${outage.median} s in the middle, ${outage.worst} s at most`]),
    ...(result.bad === 0 ? [] : ["BAD: not everything acknowledged was found as it must be"]),
  ];
}
