import { expect, it } from "vitest";
import { preparedBody, singlePrepare } from "./prepare-text.ts";

it.each<[string, string, string | null]>([
  ["prepare a as select 1", "a", "prepare a as select 1"],
  ["PREPARE a(int) AS select $1;", "a", "PREPARE a(int) AS select $1"],
  ["delete from t; prepare a as select ';'; drop table t", "a", "prepare a as select ';'"],
  ["prepare a as select 1; prepare b as select 2", "b", "prepare b as select 2"],
  ['prepare "A b" as select 1; select 2', "A b", 'prepare "A b" as select 1'],
  [
    "/* prepare a as select 0; */ prepare a as select 1 -- ; drop",
    "a",
    "/* prepare a as select 0; */ prepare a as select 1 -- ; drop",
  ],
  ["prepare a as select $x$;$x$; select 1", "a", "prepare a as select $x$;$x$"],
  ["prepare a as select 1; deallocate a; prepare a as select 2", "a", null],
  ["select 1", "a", null],
  // Where the string ends depends on standard_conforming_strings.
  ["prepare a as select '\\'; drop table t; --'", "a", null],
])("%s", (text, name, expected) => {
  expect(singlePrepare(text, name)).toBe(expected);
});

it.each<[string, string]>([
  ["prepare a as select 1", " select 1"],
  ["PREPARE a(int, numeric(3, 2)) AS select $1 as b;", " select $1 as b"],
  ["prepare a", ""],
  ["prepare a as select '\\'; drop table t; --'", ""],
])("of %s runs %s", (text, expected) => {
  expect(preparedBody(text, "a")).toBe(expected);
});
