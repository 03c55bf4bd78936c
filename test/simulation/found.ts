/** What found a planted bug once, and finds it again in every run of the tests. */
export interface Finding {
  readonly seed: number;
  /** The invariant that caught it. */
  readonly invariant: string;
}

/** For each planted bug (plants.mjs) the seed that found it, lived in that plant's own scenario. */
export const plantsFound: Readonly<Record<string, Finding>> = {
  "diverged-followed": { seed: 28, invariant: "I5" },
  "early-unprotected": { seed: 6, invariant: "I1" },
  "least-advanced": { seed: 68, invariant: "I2" },
  "any-standby-counts": { seed: 2, invariant: "I2" },
  "checkpointer-not-awaited": { seed: 27, invariant: "I2" },
  "clients-after-crash": { seed: 8, invariant: "I2" },
  "early-observer": { seed: 2, invariant: "I1" },
  "late-release": { seed: 21, invariant: "I1" },
  "names-after-promotion": { seed: 8, invariant: "I2" },
  "no-barrier": { seed: 11, invariant: "I2" },
  "no-compare-and-swap": { seed: 1, invariant: "I1" },
  "no-guard": { seed: 3, invariant: "I1" },
  "one-instead-of-two": { seed: 15, invariant: "I2" },
  "postgres-first": { seed: 2, invariant: "I2" },
  "postmaster-only": { seed: 7, invariant: "I1" },
  "promise-strands": { seed: 1, invariant: "I5" },
  "record-replaced": { seed: 2, invariant: "I2" },
  "rewind-unsaved": { seed: 5, invariant: "I6" },
  "suspend-ignored": { seed: 6, invariant: "I1" },
  "unprotected-unrecorded": { seed: 2, invariant: "I2" },
};

/** Seeds, by scenario (null = all faults), in which the program itself once failed. */
export const bugsFound: readonly { readonly seed: number; readonly scenario: string | null }[] = [
  { seed: 2027, scenario: null },
  { seed: 28, scenario: "changes" },
  { seed: 40, scenario: "changes" },
  { seed: 5137, scenario: null },
  { seed: 20341, scenario: null },
  { seed: 20568, scenario: null },
  { seed: 20925, scenario: null },
  { seed: 21045, scenario: null },
  { seed: 40018, scenario: null },
  { seed: 40036, scenario: null },
];
