// The import direction (docs/ARCHITECTURE.md): a folder may import those before it in this list, never those after it.
const layers = [
  "values",
  "cluster",
  "pgwire",
  "config",
  "system",
  "dcs",
  "postgres",
  "agent",
  "router",
  "backup",
  "api",
  "notify",
  "demo",
  "cli",
];
const tests = "\\.(test|contract)\\.ts$";

const direction = layers.slice(0, -1).map((layer, index) => ({
  name: `direction-${layer}`,
  comment: `src/${layer} may import only what stands before it: ${layers.slice(0, index).join(", ") || "nothing"}.`,
  severity: "error",
  from: { path: `^src/${layer}/` },
  to: { path: `^src/(${layers.slice(index + 1).join("|")})/` },
}));

/** @type {import("dependency-cruiser").IConfiguration} */
module.exports = {
  forbidden: [
    ...direction,
    {
      name: "pure",
      comment: "values, cluster and pgwire are pure: no I/O, no clock, no logger, no package.",
      severity: "error",
      from: { path: "^src/(values|cluster|pgwire)/", pathNot: tests },
      to: {
        dependencyTypes: ["core", "npm", "npm-dev", "npm-no-pkg", "npm-unknown"],
        pathNot: "^(node:)?(assert|buffer|crypto|util)$",
      },
    },
    {
      name: "unknown-folder",
      comment: "A new folder below src/ needs its place in the list of layers.",
      severity: "error",
      from: { path: "^src/", pathNot: `^src/(${layers.join("|")})/|^src/[a-z-]+\\.ts$` },
      to: {},
    },
    {
      name: "adapters-apart",
      comment: "No adapter of the store imports another.",
      severity: "error",
      from: { path: "^src/dcs/([^/]+)/" },
      to: { path: "^src/dcs/[^/]+/", pathNot: "^src/dcs/$1/" },
    },
    {
      name: "not-to-main",
      comment: "main.ts and its neighbours know every adapter; nobody knows them.",
      severity: "error",
      from: { pathNot: "^src/[a-z-]+\\.ts$" },
      to: { path: "^src/[a-z-]+\\.ts$" },
    },
    {
      name: "not-to-tests",
      comment: "The program does not depend on its tests, measurements or scripts.",
      severity: "error",
      from: { path: "^src/", pathNot: tests },
      to: { path: `^(test|bench|fault|scripts)/|${tests}` },
    },
    {
      name: "not-to-dev",
      comment: "What the program imports must be installed with it.",
      severity: "error",
      from: { path: "^src/", pathNot: tests },
      to: { dependencyTypes: ["npm-dev"], pathNot: "node_modules/@types/" },
    },
    {
      name: "no-cycle",
      comment:
        "Modules that need each other at run time cannot be understood one at a time. Types alone may.",
      severity: "error",
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ["type-only"] } },
    },
    {
      name: "resolvable",
      comment: "The import leads nowhere.",
      severity: "error",
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    tsPreCompilationDeps: true,
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["import", "node", "default", "types"],
    },
  },
};
