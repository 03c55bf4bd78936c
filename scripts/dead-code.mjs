// Finds files nothing reaches, exports nobody needs and packages nobody imports. Syntax alone, no type checker: two seconds.
//   node scripts/dead-code.mjs
// An export counts as used when another file of the program imports it, or when a test imports it and its own file uses it
// too (a part that is tested by itself). A type that its own file's exports mention may be exported without an importer.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { isProgram, root as clone } from "./run.mjs";

const folders = ["src", "test", "bench", "fault", "scripts"];
const isTest = (path) => /\.(test|contract)\.ts$/.test(path) || path.startsWith("test/");
/** Where the program, its measurements and its scripts begin. */
const isEntry = (path) => path === "src/main.ts" || /^(bench|fault|scripts)\//.test(path) || isTest(path);
/** A store for tests and the simulation, which no program offers. */
const forTestsOnly = (path) => path.startsWith("src/dcs/memory/");
/** Packages that are run, not imported. */
const tools = new Set(["typescript", "eslint", "prettier", "vitest", "dependency-cruiser", "pino-pretty"]);

function sourcesBelow(root, dir) {
  if (!existsSync(join(root, dir))) return [];
  return readdirSync(join(root, dir), { withFileTypes: true }).flatMap((entry) => {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) return entry.name === "node_modules" ? [] : sourcesBelow(root, path);
    return /\.(ts|mjs|js)$/.test(entry.name) && !entry.name.endsWith(".d.ts") ? [path] : [];
  });
}

/** What one file exports, imports and mentions. */
function read(ts, root, path) {
  const text = readFileSync(join(root, path), "utf8");
  const file = ts.createSourceFile(path, text, ts.ScriptTarget.ES2023, true);
  const facts = { path, exports: new Map(), imports: [], packages: new Set(), mentions: new Map() };
  const target = (specifier) => {
    // A script that needs the build imports dist/x.js: that is src/x.ts.
    if (specifier.startsWith("."))
      return relative(root, resolve(root, dirname(path), specifier)).replace(/^dist\/(.*)\.js$/, "src/$1.ts");
    if (!specifier.startsWith("node:"))
      facts.packages.add(
        specifier
          .split("/")
          .slice(0, specifier.startsWith("@") ? 2 : 1)
          .join("/"),
      );
    return undefined;
  };
  const importAll = (specifier) => {
    const to = target(specifier);
    if (to !== undefined) facts.imports.push({ to, name: "*" });
  };
  const exported = (node) =>
    ts.canHaveModifiers(node) &&
    ts.getModifiers(node)?.some((word) => word.kind === ts.SyntaxKind.ExportKeyword);
  const declare = (name, isType, node) =>
    facts.exports.set(name, { isType, line: file.getLineAndCharacterOfPosition(node.getStart()).line + 1 });
  const visit = (node) => {
    if (ts.isIdentifier(node)) facts.mentions.set(node.text, (facts.mentions.get(node.text) ?? 0) + 1);
    if (ts.isImportDeclaration(node)) {
      const to = target(node.moduleSpecifier.text);
      const bindings = node.importClause?.namedBindings;
      if (to !== undefined && bindings !== undefined && ts.isNamedImports(bindings))
        for (const each of bindings.elements)
          facts.imports.push({ to, name: (each.propertyName ?? each.name).text });
      else if (to !== undefined) facts.imports.push({ to, name: "*" });
      return;
    }
    if (ts.isExportDeclaration(node)) {
      const to = node.moduleSpecifier === undefined ? undefined : target(node.moduleSpecifier.text);
      if (to !== undefined) facts.imports.push({ to, name: "*" });
      else if (node.exportClause !== undefined && ts.isNamedExports(node.exportClause))
        for (const each of node.exportClause.elements) declare(each.name.text, node.isTypeOnly, each);
      return;
    }
    // import("./x.ts"), import("./x.ts").then(({ name }) => ...), new URL("./x.ts", import.meta.url)
    if (
      ts.isCallExpression(node) &&
      node.expression.kind === ts.SyntaxKind.ImportKeyword &&
      ts.isStringLiteral(node.arguments[0])
    )
      importAll(node.arguments[0].text);
    if (
      ts.isNewExpression(node) &&
      node.expression.getText() === "URL" &&
      node.arguments?.[0] !== undefined &&
      ts.isStringLiteral(node.arguments[0])
    )
      importAll(node.arguments[0].text.replace(/\.js$/, ".ts"));
    if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument))
      importAll(node.argument.literal.text);
    if (exported(node)) {
      if (ts.isVariableStatement(node))
        for (const each of node.declarationList.declarations) declare(each.name.getText(), false, each);
      else if (node.name !== undefined)
        declare(node.name.text, ts.isInterfaceDeclaration(node) || ts.isTypeAliasDeclaration(node), node);
    }
    ts.forEachChild(node, visit);
  };
  visit(file);
  return facts;
}

/** Everything dead in the project at `root`, as lines for people. */
export async function findDeadCode(root) {
  const { default: ts } = await import("typescript");
  const files = new Map(
    folders.flatMap((folder) => sourcesBelow(root, folder)).map((path) => [path, read(ts, root, path)]),
  );
  const problems = [];

  const reached = new Set();
  const follow = (path) => {
    if (reached.has(path) || !files.has(path)) return;
    reached.add(path);
    for (const { to } of files.get(path).imports) follow(to);
  };
  for (const path of files.keys()) if (isEntry(path) && !isTest(path)) follow(path);
  const program = new Set(reached);
  for (const path of files.keys()) if (isTest(path)) follow(path);
  for (const path of files.keys())
    if (path.startsWith("src/") && !isTest(path) && !program.has(path) && !forTestsOnly(path))
      problems.push(
        `${path}  ${reached.has(path) ? "only tests reach this file" : "nothing reaches this file"}`,
      );

  const users = new Map();
  for (const facts of files.values())
    for (const { to, name } of facts.imports)
      users.set(`${to}#${name}`, [...(users.get(`${to}#${name}`) ?? []), facts.path]);
  for (const [path, facts] of files) {
    if (isEntry(path) && !path.startsWith("test/support/")) continue;
    const everything = users.get(`${path}#*`) ?? [];
    for (const [name, { isType, line }] of facts.exports) {
      const by = [...everything, ...(users.get(`${path}#${name}`) ?? [])];
      const usedInside = (facts.mentions.get(name) ?? 0) > 1;
      if (by.some((user) => !isTest(user))) continue;
      if (by.length > 0 && (usedInside || isTest(path) || forTestsOnly(path))) continue;
      if (isType && usedInside) continue;
      const what =
        by.length > 0
          ? "only its test uses it"
          : usedInside
            ? "used in its own file only: export it no more"
            : "nobody uses it";
      problems.push(`${path}:${line}  ${name}: ${what}`);
    }
  }

  const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const imported = new Set([...files.values()].flatMap((facts) => [...facts.packages]));
  for (const name of Object.keys({ ...manifest.dependencies, ...manifest.devDependencies }))
    if (
      !imported.has(name) &&
      !tools.has(name) &&
      !name.startsWith("@types/") &&
      name !== "typescript-eslint"
    )
      problems.push(`package.json  ${name}: no file imports it`);
  return problems;
}

if (isProgram(import.meta.url)) {
  const problems = await findDeadCode(clone);
  for (const line of problems) console.log(line);
  process.exitCode = problems.length > 0 ? 1 : 0;
}
