// @ts-check
import tseslint from "typescript-eslint";

// Time and randomness come in through the ports in src/system, so that the same code runs in the simulator.
const ambient = [
  {
    selector: "CallExpression[callee.object.name='Date'][callee.property.name='now']",
    message: "Take the time from the Clock port (src/system/clock.ts).",
  },
  {
    selector: "NewExpression[callee.name='Date'][arguments.length=0]",
    message: "Take the time from the Clock port (src/system/clock.ts).",
  },
  {
    selector: "CallExpression[callee.object.name='Math'][callee.property.name='random']",
    message: "Take randomness from the Random port (src/system/random.ts).",
  },
  {
    selector: "CallExpression[callee.object.name='AbortSignal'][callee.property.name='any']",
    message: "AbortSignal.any leaks on Node 20; use deadline() in src/system/timers.ts.",
  },
];
const timers = ["setTimeout", "setInterval", "setImmediate"].map((name) => ({
  name,
  message: "Use the Timers port (src/system/timers.ts).",
}));

export default tseslint.config(
  { ignores: [".dependency-cruiser.cjs", "dist/", "node_modules/", ".cache/", "coverage/"] },
  ...tseslint.configs.strictTypeChecked,
  { languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } } },
  {
    rules: {
      "no-restricted-syntax": ["error", ...ambient],
      "no-restricted-globals": ["error", ...timers],
      "@typescript-eslint/switch-exhaustiveness-check": [
        "error",
        { considerDefaultExhaustiveForUnions: false },
      ],
      "@typescript-eslint/consistent-type-imports": "error",
      "@typescript-eslint/restrict-template-expressions": [
        "error",
        { allowNumber: true, allowBoolean: true },
      ],
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      "no-console": "error",
    },
  },
  // The adapters of the ports themselves, and code that is not part of the daemons.
  {
    files: ["src/system/**", "src/demo/**", "test/**", "bench/**", "fault/**", "scripts/**"],
    rules: { "no-restricted-syntax": "off", "no-restricted-globals": "off", "no-console": "off" },
  },
  { files: ["**/*.test.ts", "test/**"], rules: { "@typescript-eslint/no-non-null-assertion": "off" } },
  { files: ["**/*.js", "**/*.mjs", "**/*.cjs"], ...tseslint.configs.disableTypeChecked },
);
