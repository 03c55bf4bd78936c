import { drawFaults } from "./faults.ts";
import { drawTraits } from "./settings.ts";
import { live, type Life } from "./world.ts";

/** Lives the life that a seed determines. */
export function runSeed(
  seed: number,
  scenario: string | null,
  trace: ((line: string) => void) | null,
): Promise<Life> {
  const traits = drawTraits(seed, scenario);
  return live({ seed, traits, faults: drawFaults(seed, traits), trace });
}
