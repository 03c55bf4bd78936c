// Millions of broken inputs for everything that reads what strangers send (npm run fuzz). See test/fuzz/.
// The same seed gives the same inputs; a failure names its seed and bytes.
import { register } from "node:module";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { readArguments } from "./arguments.mjs";

const usage = `npm run fuzz [-- OPTION...]
  --inputs N   how many inputs in all (default 1000000)
  --seed S     what they are drawn from (default 1)`;
const values = readArguments(
  usage,
  { inputs: { type: "string", default: "1000000" }, seed: { type: "string", default: "1" } },
  ["inputs", "seed"],
);
setFlagsFromString("--expose-gc");
globalThis.gc = runInNewContext("gc");
register("../test/simulation/loader.mjs", import.meta.url, { data: { patches: [] } });
const { main } = await import("../test/fuzz/main.ts");
process.exitCode = main(Math.max(1, Number(values.inputs)), Number(values.seed));
