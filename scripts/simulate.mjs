// The deterministic simulator (npm run simulate): the program's own modules in a simulated world. See test/simulation/README.md.
//   npm run simulate -- [--seeds N] [--from S] [--scenario NAME] [--plant BUG | --plant list] [--trace SEED] [--json]
import { register } from "node:module";
import { parseArgs } from "node:util";
import { plants } from "../test/simulation/plants.mjs";

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "500" },
    from: { type: "string", default: "1" },
    scenario: { type: "string" },
    plant: { type: "string" },
    trace: { type: "string" },
    json: { type: "boolean", default: false },
  },
});

if (values.plant === "list") {
  for (const [name, { what }] of Object.entries(plants)) console.log(`${name.padEnd(26)} ${what}`);
} else if (values.plant !== undefined && !(values.plant in plants)) {
  console.error(`There is no planted bug ${values.plant}; see --plant list.`);
  process.exitCode = 2;
} else {
  const patches = values.plant === undefined ? [] : plants[values.plant].patches;
  register("../test/simulation/loader.mjs", import.meta.url, { data: { patches } });
  const { simulate } = await import("../test/simulation/main.ts");
  process.exitCode = await simulate({
    seeds: Number(values.seeds),
    from: Number(values.from),
    scenario: values.scenario ?? plants[values.plant]?.scenario ?? null,
    trace: values.trace === undefined ? null : Number(values.trace),
    json: values.json,
    stopAtFirst: values.plant !== undefined,
  });
}
