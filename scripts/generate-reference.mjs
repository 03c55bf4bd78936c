// Writes the generated pages of docs/reference from the schemas and the route tables. Needs the build: npm run build.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { backupApiText } from "../dist/api/backup/reference.js";
import { openApiText, withEndpoints } from "../dist/api/reference.js";
import { referenceFiles } from "../dist/config/reference.js";

const directory = fileURLToPath(new URL("../docs/reference/", import.meta.url));
mkdirSync(directory, { recursive: true });
const files = [
  ...referenceFiles(),
  ["backup-api.md", backupApiText()],
  ["openapi.json", openApiText()],
  ["api.md", withEndpoints(readFileSync(`${directory}api.md`, "utf8"))],
];
for (const [name, text] of files) {
  writeFileSync(`${directory}${name}`, text);
  console.log(`docs/reference/${name}`);
}
