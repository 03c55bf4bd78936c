// The deterministic simulator (npm run simulate): the agent's own modules in a simulated world. See test/simulation/README.md.
import { register } from "node:module";

register("../test/simulation/loader.mjs", import.meta.url, { data: { patches: [] } });
await import("../test/simulation/main.ts");
