// The deterministic simulator (npm run simulate): the program's own modules in a simulated world. See test/simulation/README.md.
import { register } from "node:module";
import { plants } from "../test/simulation/plants.mjs";
import { readArguments } from "./arguments.mjs";

const usage = `npm run simulate [-- OPTION...]
  --seeds N         how many lives (default 500)
  --from S          the first seed (default 1)
  --scenario NAME   one kind of trouble alone
  --plant BUG       with this bug planted: ends at the first life that shows it, with exit status 1
  --plant list      the bugs there are
  --trace SEED      one life, told line by line
  --json            the result as JSON`;
const values = readArguments(
  usage,
  {
    seeds: { type: "string", default: "500" },
    from: { type: "string", default: "1" },
    scenario: { type: "string" },
    plant: { type: "string" },
    trace: { type: "string" },
    json: { type: "boolean", default: false },
  },
  ["seeds", "from", "trace"],
);

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
