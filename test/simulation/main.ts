import { seconds } from "./checkers.ts";
import { runSeed, shrink } from "./run.ts";
import type { Life } from "./world.ts";

export interface Request {
  readonly seeds: number;
  readonly from: number;
  readonly scenario: string | null;
  /** Only this seed, with its trace. */
  readonly trace: number | null;
  readonly json: boolean;
  /** One finding is enough. */
  readonly stopAtFirst: boolean;
}

/** The last lines of a trace that are shown with a violation. */
const shownLines = 60;

/** The command `npm run simulate`. @returns its exit status: 1 when a checker found something */
export async function simulate(request: Request): Promise<number> {
  if (request.trace !== null) {
    const life = await runSeed(request.trace, {
      scenario: request.scenario,
      trace: (line) => console.log(line),
    });
    console.log(request.json ? JSON.stringify(life) : summaryOf(life));
    return life.violations.length > 0 ? 1 : 0;
  }
  const began = process.cpuUsage();
  const total = { lives: 0, simulatedMs: 0, events: 0, acknowledged: 0, promotions: 0, lostUnprotected: 0 };
  const found: Life[] = [];
  for (let seed = request.from; seed < request.from + request.seeds; seed += 1) {
    const life = await runSeed(seed, { scenario: request.scenario });
    total.lives += 1;
    total.simulatedMs += life.simulatedMs;
    total.events += life.events;
    total.acknowledged += life.acknowledged;
    total.promotions += life.promotions;
    total.lostUnprotected += life.lostUnprotected;
    if (life.violations.length === 0) continue;
    found.push(life);
    if (!request.json) await explain(life, request.scenario);
    if (request.stopAtFirst) break;
  }
  const cpu = process.cpuUsage(began);
  const cpuMs = (cpu.user + cpu.system) / 1000;
  const hours = total.simulatedMs / 3_600_000;
  const hoursPerMinute = hours / (cpuMs / 60_000);
  if (request.json)
    console.log(
      JSON.stringify({
        ...total,
        hours,
        hoursPerMinute,
        found: found.map(({ seed, violations }) => ({ seed, violations })),
      }),
    );
  else
    console.log(
      `${total.lives} lives, ${hours.toFixed(1)} cluster-hours, ${total.acknowledged} commits, ${total.promotions} promotions: ` +
        `${found.length} with a violation; ${hoursPerMinute.toFixed(1)} hours per minute of one core`,
    );
  return found.length > 0 ? 1 : 0;
}

/** Seed, violation, what is left when the needless faults are left out, and the end of that life's trace. */
async function explain(life: Life, scenario: string | null): Promise<void> {
  console.log(summaryOf(life));
  const shrunk = await shrink(life, scenario);
  console.log(
    `  needs ${shrunk.plans.length} faults, and then fails at ${seconds(shrunk.life.simulatedMs)}:`,
  );
  for (const plan of shrunk.plans)
    console.log(`    ${seconds(plan.at)}  ${plan.kind} on ${plan.target}, ${Math.round(plan.ms)} ms`);
  const lines: string[] = [];
  await runSeed(life.seed, {
    scenario,
    faults: shrunk.faults,
    trace: (line) => {
      lines.push(line.slice(0, 240));
      if (lines.length > shownLines) lines.shift();
    },
  });
  console.log(lines.map((line) => `  | ${line}`).join("\n"));
}

function summaryOf(life: Life): string {
  const [violation] = life.violations;
  return violation === undefined
    ? `seed ${life.seed}: nothing found in ${seconds(life.simulatedMs)}`
    : `seed ${life.seed}: ${violation.invariant} violated at ${seconds(violation.at)}: ${violation.text}`;
}
