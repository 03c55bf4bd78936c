import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { initialSettings } from "./settings.ts";

describe("the initial settings", () => {
  it("reads values as YAML and dots as nesting", () => {
    const given = [
      "ttl=2s",
      "reclone.attempts=5",
      "failover=manual",
      "postgresql.pg_hba=[host all all all md5]",
      "rewind=false",
    ];
    expect(initialSettings(given, null)).toEqual({
      ttl: "2s",
      reclone: { attempts: 5 },
      failover: "manual",
      postgresql: { pg_hba: ["host all all all md5"] },
      rewind: false,
    });
  });

  it("keeps the dots in the names of PostgreSQL's parameters", () => {
    expect(
      initialSettings(
        ["postgresql.parameters.pg_stat_statements.max=100", "postgresql.parameters.work_mem=8MB"],
        null,
      ),
    ).toEqual({
      postgresql: { parameters: { "pg_stat_statements.max": 100, work_mem: "8MB" } },
    });
  });

  it("takes the ttl in seconds, and a later --set wins", () => {
    expect(initialSettings([], 2500)).toEqual({ ttl: 2.5 });
    expect(initialSettings(["ttl=4"], 2500)).toEqual({ ttl: 4 });
  });

  it("keeps everything behind the first equals sign", () => {
    expect(initialSettings(["postgresql.restore_command=cp a=b %p"], null)).toEqual({
      postgresql: { restore_command: "cp a=b %p" },
    });
  });

  it.each(["ttl", "=5", "a..b=1", "a.=1", "__proto__=1", "a.__proto__.b=1", "ttl=[1"])(
    "refuses %s",
    (text) => {
      expect(() => initialSettings([text], null)).toThrow(expect.objectContaining({ code: "USAGE" }));
    },
  );

  it("puts any two names of any depth where they belong", () => {
    const name = fc.stringMatching(/^[a-z][a-z0-9_]{0,8}$/);
    fc.assert(
      fc.property(fc.array(name, { minLength: 1, maxLength: 4 }), fc.integer(), (path, value) => {
        let tree: unknown = initialSettings([`${path.join(".")}=${value}`], null);
        for (const key of path) tree = (tree as Record<string, unknown>)[key];
        expect(tree).toBe(value);
      }),
    );
  });
});
