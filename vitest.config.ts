import { basename } from "node:path";
import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** Files that take longest although they are short: the others begin by size, and none of these is to come last, alone. */
const long = [
  "router-moves.test.ts",
  "cluster-switchover.test.ts",
  "cluster-formation.test.ts",
  "backup-base-cluster.test.ts",
];

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = (file: TestSpecification): number => (long.includes(basename(file.moduleId)) ? 0 : 1);
    return (await super.sort(files)).sort((a, b) => rank(a) - rank(b));
  }
}

export default defineConfig({
  test: {
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        test: {
          name: "unit",
          include: [
            "src/**/*.test.ts",
            "test/structure/**/*.test.ts",
            "test/fuzz/**/*.test.ts",
            "fault/*.test.mjs",
          ],
          isolate: false,
          pool: "threads",
          // Not what a test takes, but what tells that it will never end: a busy machine may be ten times slower.
          testTimeout: 60_000,
        },
      },
      {
        test: {
          name: "simulation",
          include: ["test/simulation/**/*.test.ts"],
          pool: "threads",
        },
      },
      {
        test: {
          name: "integration",
          include: ["test/integration/**/*.test.ts"],
          pool: "forks",
          // Clusters mostly wait: two at a time, each with ports of its own (test/support/ports.ts). Three need more than two cores.
          maxWorkers: 2,
          // Leases of seconds on a machine that others use too: once more, and said so; what fails twice has failed.
          retry: 1,
          // After the others, when a filter means some of each: groups with other numbers of workers cannot run at once.
          sequence: { groupOrder: 1 },
          testTimeout: 240_000,
          hookTimeout: 300_000,
        },
      },
    ],
  },
});
