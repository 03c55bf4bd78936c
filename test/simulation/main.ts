import { parseArgs } from "node:util";
import { runSeed } from "./run.ts";

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "300" },
    from: { type: "string", default: "1" },
    scenario: { type: "string" },
    trace: { type: "string" },
    json: { type: "boolean", default: false },
  },
});

if (values.trace !== undefined) {
  const life = await runSeed(Number(values.trace), values.scenario ?? null, (line) => console.log(line));
  console.log(JSON.stringify(life));
} else {
  const from = Number(values.from);
  const began = performance.now();
  let simulated = 0;
  let events = 0;
  const found: number[] = [];
  for (let seed = from; seed < from + Number(values.seeds); seed += 1) {
    const life = await runSeed(seed, values.scenario ?? null, null);
    simulated += life.simulatedMs;
    events += life.events;
    if (life.violations.length > 0) {
      found.push(seed);
      console.log(
        seed,
        life.violations
          .map((violation) => `${violation.invariant} ${(violation.at / 1000).toFixed(1)}: ${violation.text}`)
          .join("\n"),
      );
    }
  }
  const ms = performance.now() - began;
  console.log(
    `${values.seeds} lives, ${found.length} violations, ${(simulated / 3.6e6).toFixed(2)} h simulated in ${(ms / 1000).toFixed(1)} s: ${(simulated / 3.6e6 / (ms / 60000)).toFixed(1)} h/min; ${Math.round(events / (ms / 1000))} events/s`,
  );
}
