// The fast gate (npm run check): one line per gate; what a failed gate said follows it. 1 when any failed.
//   node scripts/check.mjs [GATE...]      for example: node scripts/check.mjs lint unit
import { join } from "node:path";
import { isProgram, root, run } from "./run.mjs";
import { setUp } from "./setup.mjs";

const bin = (name, ...args) => [process.execPath, join(root, "node_modules", name), ...args];
const sources = ["src", "test", "bench", "fault", "scripts"];

/** Each gate and its command. */
const gates = {
  format: bin(
    "prettier/bin/prettier.cjs",
    "--check",
    "--cache",
    "--cache-location",
    ".cache/prettier",
    "--log-level",
    "warn",
    ".",
  ),
  types: bin(
    "typescript/bin/tsc",
    "-p",
    ".",
    "--incremental",
    "--tsBuildInfoFile",
    ".cache/types.tsbuildinfo",
  ),
  lint: bin(
    "eslint/bin/eslint.js",
    "--cache",
    "--cache-location",
    ".cache/eslint/",
    "--max-warnings",
    "0",
    ".",
  ),
  imports: bin(
    "dependency-cruiser/bin/dependency-cruise.mjs",
    "--config",
    ".dependency-cruiser.cjs",
    ...sources,
  ),
  "dead code": [process.execPath, join(root, "scripts/dead-code.mjs")],
  unit: bin("vitest/vitest.mjs", "run", "--project", "unit"),
  simulation: bin("vitest/vitest.mjs", "run", "--project", "simulation"),
};

/** Runs the gates, two at a time. @returns whether all passed */
export async function check(names = Object.keys(gates)) {
  const waiting = [...names];
  let passed = true;
  const worker = async () => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
      const result = await run(gates[name], { env: { NO_COLOR: "1", FORCE_COLOR: "0" } });
      const note = ["unit", "simulation"].includes(name) ? unitSummary(result.output) : "";
      console.log(
        `${result.code === 0 ? "✓" : "✗"} ${name.padEnd(10)} ${result.seconds.toFixed(1).padStart(5)} s${note}`,
      );
      if (result.code !== 0) {
        passed = false;
        console.log(`${result.output.trimEnd()}\n`);
      }
    }
  };
  await Promise.all([worker(), worker()]);
  return passed;
}

function unitSummary(output) {
  const line = /^\s*Tests\s+(.*)$/m.exec(output);
  return line === null ? "" : `   ${line[1].trim()}`;
}

if (isProgram(import.meta.url)) {
  const asked = process.argv.slice(2);
  const unknown = asked.filter((name) => !(name in gates));
  if (unknown.length > 0) {
    console.error(`Unknown gate: ${unknown.join(", ")}. The gates: ${Object.keys(gates).join(", ")}.`);
    process.exitCode = 2;
  } else {
    const ready = await setUp({ tests: false, machine: false, build: false });
    const began = performance.now();
    const passed = ready && (await check(asked.length > 0 ? asked : undefined));
    console.log(
      `${passed ? "All gates passed" : "A gate failed"} (${((performance.now() - began) / 1000).toFixed(0)} s)`,
    );
    process.exitCode = passed ? 0 : 1;
  }
}
