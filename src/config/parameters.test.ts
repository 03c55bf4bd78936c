import { expect, test } from "vitest";
import { checkSettings } from "./cluster-settings.ts";
import { ownedParameters, parameterProblem } from "./parameters.ts";
import { basebackupOwned, initdbOwned, optionProblem } from "./program-options.ts";

test("an owned parameter is refused with why, in any case of its letters", () => {
  for (const [name, why] of ownedParameters) {
    expect(parameterProblem(name, "x")).toContain(why);
    expect(parameterProblem(name.toUpperCase(), "x")).toContain(why);
  }
});

test("settings that would end replication are refused", () => {
  expect(parameterProblem("wal_level", "minimal")).toContain("replica or logical");
  expect(parameterProblem("wal_level", "logical")).toBeNull();
  expect(parameterProblem("max_wal_senders", "0")).toContain("minimum");
  expect(parameterProblem("max_replication_slots", "10")).toBeNull();
});

test.each([
  ["a name with a space", "work mem", "4MB"],
  ["a name with a line break", "work_mem\nport", "4MB"],
  ["a value with a line break", "work_mem", "4MB\nport = 1"],
])("%s is refused: it could write further lines", (_, name, value) => {
  expect(parameterProblem(name, value)).not.toBeNull();
});

test("one parameter in two spellings is refused", () => {
  const problems = checkSettings({ postgresql: { parameters: { work_mem: "4MB", WORK_MEM: "8MB" } } });
  expect(problems).toMatchObject([{ path: "postgresql.parameters.WORK_MEM" }]);
});

test.each([
  "-D/x",
  "-D",
  "--pgdata=/x",
  "--pgd=/x",
  "--pwfile=/x",
  "--auth-local=trust",
  "-U",
  "--no-sync",
  "/x",
  "",
])("initdb does not get %j", (argument) => {
  expect(optionProblem(argument, initdbOwned)).not.toBeNull();
});

test.each(["--locale=C.UTF-8", "--wal-segsize=64", "-E", "-EUTF8", "--encoding=UTF8", "--no-instructions"])(
  "initdb gets %j",
  (argument) => {
    expect(optionProblem(argument, initdbOwned)).toBeNull();
  },
);

test.each(["-X", "--wal-method=none", "-h", "--target=server", "-R", "--format=tar"])(
  "pg_basebackup does not get %j",
  (argument) => {
    expect(optionProblem(argument, basebackupOwned)).not.toBeNull();
  },
);

test.each(["--max-rate=50M", "-r50M", "--tablespace-mapping=/a=/b", "-T/a=/b", "--waldir=/w"])(
  "pg_basebackup gets %j",
  (argument) => {
    expect(optionProblem(argument, basebackupOwned)).toBeNull();
  },
);
