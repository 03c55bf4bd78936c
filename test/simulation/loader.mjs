// Loads TypeScript by stripping its types (kept in .cache/simulation), and plants a bug on the way when asked to.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../", import.meta.url));
const cache = join(root, ".cache/simulation");
let patches = [];
let typescript;

/** @param data {{patches: {file: string, old: string, new: string}[]}} */
export function initialize(data) {
  patches = data?.patches ?? [];
}

export async function load(url, context, nextLoad) {
  if (!url.startsWith("file:") || !url.endsWith(".ts")) return nextLoad(url, context);
  const path = fileURLToPath(url);
  let text = readFileSync(path, "utf8");
  for (const patch of patches) {
    if (path !== join(root, patch.file)) continue;
    const parts = text.split(patch.old);
    if (parts.length !== 2)
      throw new Error(`The text to replace is ${parts.length - 1} times in ${patch.file}: ${patch.old}`);
    text = parts.join(patch.new);
  }
  return { format: "module", source: await strip(path, text), shortCircuit: true };
}

async function strip(path, text) {
  const file = join(cache, `${createHash("sha1").update(path).update(text).digest("hex")}.mjs`);
  if (existsSync(file)) return readFileSync(file, "utf8");
  typescript ??= (await import("typescript")).default;
  const { outputText } = typescript.transpileModule(text, {
    fileName: path,
    compilerOptions: {
      target: "ES2023",
      module: "ESNext",
      verbatimModuleSyntax: true,
      inlineSourceMap: true,
    },
  });
  mkdirSync(cache, { recursive: true });
  const temporary = `${file}.${process.pid}`;
  writeFileSync(temporary, outputText);
  renameSync(temporary, file);
  return outputText;
}
