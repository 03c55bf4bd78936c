/** What found a planted bug once, and finds it again in every run of the tests. */
export interface Finding {
  readonly seed: number;
  /** The invariant that caught it. */
  readonly invariant: string;
}

/** For each planted bug (plants.mjs) the seed that found it, lived in that plant's own scenario. */
export const plantsFound: Readonly<Record<string, Finding>> = {
  "any-standby-counts": { seed: 9, invariant: "I2" },
  "archive-acks-early": { seed: 1, invariant: "I2" },
  "archive-follows-lower": { seed: 109, invariant: "I2" },
  "archive-promise-forgotten": { seed: 20, invariant: "I2" },
  "archive-streams-on": { seed: 67, invariant: "I2" },
  "archive-wal-left": { seed: 1, invariant: "I2" },
  "candidate-outside": { seed: 102, invariant: "I3" },
  "checkpointer-not-awaited": { seed: 51, invariant: "I2" },
  "clients-after-crash": { seed: 4, invariant: "I2" },
  "diverged-followed": { seed: 9, invariant: "I5" },
  "early-observer": { seed: 12, invariant: "I1" },
  "early-unprotected": { seed: 35, invariant: "I1" },
  "late-release": { seed: 8, invariant: "I1" },
  "lease-from-reply": { seed: 20, invariant: "I1" },
  "least-advanced": { seed: 13, invariant: "I2" },
  "lineage-unproven": { seed: 186, invariant: "I2" },
  "names-after-promotion": { seed: 18, invariant: "I2" },
  "no-barrier": { seed: 1, invariant: "I2" },
  "no-compare-and-swap": { seed: 1, invariant: "I1" },
  "no-guard": { seed: 3, invariant: "I1" },
  "old-token-followed": { seed: 12, invariant: "I2" },
  "one-instead-of-two": { seed: 2, invariant: "I2" },
  "one-promise-too-few": { seed: 94, invariant: "I2" },
  "password-for-all": { seed: 1060, invariant: "I1" },
  "postgres-first": { seed: 1, invariant: "I2" },
  "postmaster-only": { seed: 173, invariant: "I1" },
  "promise-forgotten": { seed: 56, invariant: "I2" },
  "promise-strands": { seed: 24, invariant: "I5" },
  "received-trusted": { seed: 189, invariant: "I2" },
  "receiver-returns": { seed: 10, invariant: "I1" },
  "record-not-compared": { seed: 203, invariant: "I1" },
  "record-replaced": { seed: 13, invariant: "I2" },
  "record-without-lease": { seed: 15, invariant: "I2" },
  "rewind-unsaved": { seed: 4, invariant: "I6" },
  "successor-behind": { seed: 13, invariant: "I2" },
  "suspend-ignored": { seed: 76, invariant: "I1" },
  "timeline-ignored": { seed: 7, invariant: "I2" },
  "timeline-reused": { seed: 64, invariant: "I4" },
  "ttl-counted-late": { seed: 3, invariant: "I1" },
  "unprotected-unrecorded": { seed: 1, invariant: "I2" },
  "walsender-not-awaited": { seed: 143, invariant: "I2" },
  "wiped-member-counts": { seed: 22, invariant: "I2" },
};

/** A life in which the program itself once failed, by scenario (null = all faults). */
export interface BugFound {
  readonly seed: number;
  readonly scenario: string | null;
  /** False: drawn as lives are now; else as they were then (WorldTraits.earlier). */
  readonly earlier?: false;
}

export const bugsFound: readonly BugFound[] = [
  { seed: 2027, scenario: null },
  { seed: 28, scenario: "changes" },
  { seed: 40, scenario: "changes" },
  { seed: 5137, scenario: null },
  { seed: 20341, scenario: null },
  { seed: 20568, scenario: null },
  { seed: 20925, scenario: null },
  { seed: 21045, scenario: null },
  { seed: 40018, scenario: null },
  { seed: 137, scenario: "crashes" },
  { seed: 40036, scenario: null },
  { seed: 40034, scenario: null, earlier: false },
  { seed: 1060, scenario: null, earlier: false },
  { seed: 1710, scenario: null, earlier: false },
  { seed: 2368, scenario: null, earlier: false },
  { seed: 4334, scenario: null, earlier: false },
  { seed: 5247, scenario: null, earlier: false },
];
