/** What found a planted bug once, and finds it again in every run of the tests. */
export interface Finding {
  readonly seed: number;
  /** The invariant that caught it. */
  readonly invariant: string;
}

/** For each planted bug (plants.mjs) the seed that found it, lived in that plant's own scenario. */
export const plantsFound: Readonly<Record<string, Finding>> = {};

/** Seeds, by scenario (null = all faults), in which the program itself once failed. */
export const bugsFound: readonly { readonly seed: number; readonly scenario: string | null }[] = [
  { seed: 2027, scenario: null },
  { seed: 28, scenario: "changes" },
];
