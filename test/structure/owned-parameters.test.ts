import { expect, test } from "vitest";
import { ownedParameters } from "../../src/config/parameters.ts";
import { imposedParameters } from "../../src/postgres/configuration.ts";

test("every parameter that PostgreSQL is given by pgherd alone is refused in the configuration", () => {
  expect(imposedParameters.size).toBeGreaterThan(0);
  expect([...imposedParameters].filter((name) => !ownedParameters.has(name))).toEqual([]);
});
