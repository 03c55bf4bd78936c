// What is drawn in a round, from a seed: the same seed draws the same kills and delays (real processes differ all the same).

/** @param {number} seed */
export function drawerOf(seed) {
  let state = seed >>> 0;
  /** The next number of 0 up to 1 (mulberry32). */
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return {
    between: (from, to) => from + next() * (to - from),
    chance: (share) => next() < share,
    oneOf: (list) => list[Math.floor(next() * list.length)],
  };
}
