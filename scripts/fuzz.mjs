// Millions of broken inputs for everything that reads what strangers send (npm run fuzz). See test/fuzz/.
//   npm run fuzz -- [--inputs N] [--seed S]      the same seed gives the same inputs; a failure names its seed and bytes
import { register } from "node:module";
import { parseArgs } from "node:util";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

const { values } = parseArgs({
  options: { inputs: { type: "string", default: "1000000" }, seed: { type: "string", default: "1" } },
});
const [inputs, seed] = [Number(values.inputs), Number(values.seed)];
if (!Number.isSafeInteger(inputs) || inputs < 1 || !Number.isSafeInteger(seed)) {
  console.error("--inputs takes a number above 0, --seed a number.");
  process.exitCode = 2;
} else {
  setFlagsFromString("--expose-gc");
  globalThis.gc = runInNewContext("gc");
  register("../test/simulation/loader.mjs", import.meta.url, { data: { patches: [] } });
  const { main } = await import("../test/fuzz/main.ts");
  process.exitCode = main(inputs, seed);
}
