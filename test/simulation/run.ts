import { drawFaults, type FaultPlan } from "./faults.ts";
import { drawTraits } from "./settings.ts";
import { live, type Life } from "./world.ts";

export interface SeedOptions {
  readonly scenario?: string | null;
  /** Only these of the faults drawn, by number. */
  readonly faults?: readonly number[];
  readonly endMs?: number;
  /** As lives were drawn before (WorldTraits.earlier). */
  readonly earlier?: boolean;
  readonly trace?: ((line: string) => void) | null;
}

/** Lives the life that a seed determines. */
export function runSeed(seed: number, options: SeedOptions = {}): Promise<Life> {
  const traits = drawTraits(seed, options.scenario ?? null, options.earlier);
  const drawn = drawFaults(seed, traits);
  const faults = options.faults === undefined ? drawn : options.faults.map((index) => drawn[index]!);
  const { endMs, trace = null } = options;
  return live({ seed, traits, faults, trace, ...(endMs !== undefined && { endMs }) });
}

/** The shortest life with the same violation that was found. */
export interface Shrunk {
  readonly life: Life;
  /** The numbers of the faults that are needed. */
  readonly faults: readonly number[];
  readonly plans: readonly FaultPlan[];
}

/** Leaves out what is not needed for a violation: first halves of the faults, then one after the other. */
export async function shrink(found: Life, scenario: string | null): Promise<Shrunk> {
  const { seed } = found;
  const [violation] = found.violations;
  const drawn = drawFaults(seed, drawTraits(seed, scenario));
  let best = found;
  let kept = drawn.map((_plan, index) => index);
  const attempt = async (faults: readonly number[]): Promise<boolean> => {
    const life = await runSeed(seed, { scenario, faults });
    if (life.violations[0]?.invariant !== violation!.invariant) return false;
    best = life;
    kept = [...faults];
    return true;
  };
  for (let size = kept.length >> 1; size >= 1; size >>= 1)
    for (let start = 0; start < kept.length;) {
      const without = kept.filter((_fault, index) => index < start || index >= start + size);
      if (!(await attempt(without))) start += size;
    }
  return { life: best, faults: kept, plans: kept.map((index) => drawn[index]!) };
}
