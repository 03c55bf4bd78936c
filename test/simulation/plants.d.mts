/** One piece of a source file and what stands there instead; `old` must be there exactly once. */
export interface Patch {
  readonly file: string;
  readonly old: string;
  readonly new: string;
}

/** A planted bug, and the sort of faults that shows it best. */
export interface Plant {
  readonly scenario: string;
  readonly what: string;
  readonly patches: readonly Patch[];
}

export const plants: Readonly<Record<string, Plant>>;
