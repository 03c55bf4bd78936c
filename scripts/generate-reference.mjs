// Writes the generated pages of docs/reference from the schemas. Needs the build: npm run build.
import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { referenceFiles } from "../dist/config/reference.js";

const directory = fileURLToPath(new URL("../docs/reference/", import.meta.url));
mkdirSync(directory, { recursive: true });
for (const [name, text] of referenceFiles()) {
  writeFileSync(`${directory}${name}`, text);
  console.log(`docs/reference/${name}`);
}
