import { describe, expect, it } from "vitest";
import { clusterStatus, fakeConnect, leaderStatus, memoryIo, nodeStatus } from "../../test/support/cli.ts";
import type { ApiClient } from "../api/client.ts";
import type { MoveInput } from "../agent/service.ts";
import { Fault } from "../values/fault.ts";
import type { NodeName } from "../values/names.ts";
import type { WallTime } from "../values/time.ts";
import { runCli } from "./run.ts";

const api = ["--api", "http://db1:8008"];

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
  readonly asked: readonly string[];
}

async function run(
  argv: readonly string[],
  client: Partial<ApiClient> = {},
  answers: readonly string[] = [],
): Promise<Ran> {
  const { io, printed } = memoryIo({}, answers);
  const code = await runCli(argv, io, fakeConnect(client));
  return { code, ...printed };
}

const plan = {
  from: "db1" as NodeName,
  to: "db2" as NodeName,
  checks: [{ name: "streams", ok: true, detail: "yes" }],
  steps: ["stop db1", "promote db2"],
  sessions: null,
};
const moved = {
  id: null,
  done: true,
  leader: "db2" as NodeName,
  code: null,
  message: "Writes waited 0.5 s.",
  at: "2026-11-21T14:00:00Z" as WallTime,
};

describe("a wrong call", () => {
  it.each([
    ["an unknown command", ["statu"], "Did you mean status?"],
    ["an unknown nested command", ["node", "chek"], "Did you mean check?"],
    ["an unknown option", ["status", "--jsn"], "Did you mean --json?"],
    ["a missing operand", ["reinit"], "missing required argument `node`"],
    ["a missing option", ["failover"], "required option `--to <node>` not specified"],
    ["too many operands", ["pause", "now"], "too many arguments"],
    [
      "a value that is none of the list",
      ["restart", "--role", "leader", "--all"],
      "Allowed choices are primary, standby",
    ],
    ["a number that is none", ["explain", "--last", "many"], "It is a whole number from 1 to 1000"],
    ["a duration that is none", ["switchover", "--timeout", "soon"], "It is a duration such as"],
    ["a check that does not exist", ["node", "check", "--only", "moon"], "Allowed choices are agent"],
    ["two clusters", ["status", "--dir", "/tmp/x"], "--api and --dir name a cluster each"],
    ["no nodes to restart", ["restart"], "Name nodes, or give --all."],
    ["nodes and all nodes", ["reload", "db1", "--all"], "Name nodes, or give --all."],
    ["a time without offset", ["switchover", "--at", "2026-11-21T02:00"], "is not a time with an offset"],
    ["an unknown event", ["events", "--event", "promotd"], "Did you mean promoted?"],
    ["a shell that is none", ["completion", "tcsh"], "Allowed choices are bash, zsh, fish"],
    ["a daemon behind an option", ["agent"], "must be the first word"],
  ])("with %s ends with 2 and says what is meant", async (_what, argv, text) => {
    const { code, out, err } = await run([...argv, ...api]);
    expect(err.replaceAll(/\s+/g, " ")).toContain(text);
    expect(err).toContain("[USAGE]");
    expect(code).toBe(2);
    expect(out).toBe("");
  });

  it("without a nested command shows the help on stderr and ends with 2", async () => {
    const { code, out, err } = await run(["node"]);
    expect(code).toBe(2);
    expect(out).toBe("");
    expect(err).toContain("Usage: pgherd node");
  });

  it("with a URL that is none names its source", async () => {
    const { code, err } = await run(["status", "--api", "http://"]);
    expect(code).toBe(2);
    expect(err).toContain("--api: http:// is not a URL");
  });
});

describe("help", () => {
  it("goes to stdout and ends with 0", async () => {
    for (const argv of [[], ["--help"], ["help"], ["help", "switchover"], ["switchover", "--help"]]) {
      const { code, out, err } = await run(argv);
      expect(code).toBe(0);
      expect(out).toContain("Usage: pgherd");
      expect(err).toBe("");
    }
  });
});

describe("a read", () => {
  it("prints a table, and exactly one document with --json", async () => {
    const table = await run(["status", ...api]);
    expect(table.code).toBe(0);
    expect(table.out).toContain("* db1");
    const json = await run(["status", "--json", ...api]);
    expect(JSON.parse(json.out)).toEqual(clusterStatus());
    expect(json.err).toBe("");
  });

  it("prints an error as one JSON document on stdout, and for people on stderr", async () => {
    const fault = new Fault("API_UNREACHABLE", "No agent answers", {
      detail: "http://db1:8008: refused",
      hint: "Look.",
    });
    const { code, out, err } = await run(["status", "--json", ...api], {
      status: () => Promise.reject(fault),
    });
    expect(code).toBe(1);
    expect(JSON.parse(out)).toEqual(fault.report());
    expect(err).toContain("Failed: No agent answers.");
    expect(err).not.toContain("Nothing was changed.");
  });

  it("prints a wrong call as JSON too", async () => {
    const { code, out } = await run(["statu", "--json"]);
    expect(code).toBe(2);
    expect(JSON.parse(out)).toMatchObject({ code: "USAGE", hint: "Did you mean status?" });
  });

  it("takes the agents of PGHERD_API", async () => {
    const { io, printed } = memoryIo({ env: { PGHERD_API: "db1:8008, https://db2:8008/" } });
    const asked: unknown[] = [];
    const connect = fakeConnect({});
    const code = await runCli(["status"], io, (target) => {
      asked.push(target.urls);
      return connect(target);
    });
    expect(code).toBe(0);
    expect(asked).toEqual([["http://db1:8008", "https://db2:8008"]]);
    expect(printed.err).toBe("");
  });

  it("goes on with the events of the nodes that answer, and names the others on stderr", async () => {
    const { io, printed } = memoryIo();
    const code = await runCli(["events", "--json", ...api], io, (target) =>
      fakeConnect({
        events: () =>
          target.urls[0] === "http://db2:8008"
            ? Promise.reject(new Fault("API_UNREACHABLE", "No agent answers", { detail: "refused" }))
            : Promise.resolve([]),
      })(target),
    );
    expect(code).toBe(0);
    expect(JSON.parse(printed.out)).toEqual([]);
    expect(printed.err).toBe("? db2 could not be asked: refused\n");
  });

  it("redraws until interrupted, one document a line with --json", async () => {
    const interruption = new AbortController();
    const { io, printed } = memoryIo({ interrupted: interruption.signal });
    let looks = 0;
    const code = await runCli(["status", "--watch", "0.2", "--json", ...api], io, () => {
      looks += 1;
      if (looks === 3) interruption.abort();
      return fakeConnect({})({ urls: [], token: null, caFile: null, timeoutMs: 1 });
    });
    expect(code).toBe(0);
    const documents = printed.out.trimEnd().split("\n");
    expect(documents).toHaveLength(3);
    for (const document of documents) expect(JSON.parse(document)).toMatchObject({ cluster: "shop" });
  });
});

describe("a change", () => {
  it("without a terminal needs --yes and ends with 2", async () => {
    const { code, err } = await run(["switchover", ...api], { planMove: () => Promise.resolve(plan) });
    expect(code).toBe(2);
    expect(err).toContain("Add --yes to do it, or --dry-run to see what it would do.");
    expect(err).toContain("Nothing was changed.");
  });

  it("is done with --yes", async () => {
    const inputs: MoveInput[] = [];
    const { code, out } = await run(["switchover", "--to", "db2", "--yes", ...api], {
      planMove: () => Promise.resolve(plan),
      move: (input) => {
        inputs.push(input);
        return Promise.resolve(moved);
      },
    });
    expect(code).toBe(0);
    expect(out).toBe("Writes waited 0.5 s.\n");
    expect(inputs).toEqual([
      { kind: "switchover", leader: null, candidate: "db2", scheduledAt: null, acceptLoss: false },
    ]);
  });

  it("asks on a terminal, and changes nothing without a yes", async () => {
    for (const answer of ["", "n", "nope"]) {
      const { code, err, asked } = await run(
        ["switchover", ...api],
        { planMove: () => Promise.resolve(plan) },
        [answer],
      );
      expect(code).toBe(1);
      expect(asked).toEqual(["Move the primary from db1 to db2? [y/N] "]);
      expect(err).toContain("Nothing was changed.");
    }
    const yes = await run(
      ["switchover", ...api],
      { planMove: () => Promise.resolve(plan), move: () => Promise.resolve(moved) },
      ["y"],
    );
    expect(yes.code).toBe(0);
  });

  it("with --dry-run shows checks and steps and calls nothing that changes", async () => {
    const text = await run(["switchover", "--dry-run", ...api], { planMove: () => Promise.resolve(plan) });
    expect(text.code).toBe(0);
    expect(text.out).toContain("Would run: stop db1 · promote db2\nNothing was changed.\n");
    const json = await run(["switchover", "--dry-run", "--json", ...api], {
      planMove: () => Promise.resolve(plan),
    });
    expect(JSON.parse(json.out)).toEqual({ dry_run: true, ...plan });
  });

  it("that is refused ends with 1, code, detail and next step", async () => {
    const fault = new Fault("SWITCHOVER_CANDIDATE_EXCLUDED", "db3 has the tag nofailover.", {
      hint: "Choose db2.",
    });
    const { code, err } = await run(["switchover", "--to", "db3", "--yes", ...api], {
      planMove: () => Promise.reject(fault),
    });
    expect(code).toBe(1);
    expect(err).toMatch(
      /^Refused: db3 has the tag nofailover\. +\[SWITCHOVER_CANDIDATE_EXCLUDED\]\n {2}next {4}Choose db2\.\nNothing was changed\.\n$/,
    );
  });

  it("whose answer is lost ends with 3", async () => {
    const { code, err } = await run(["switchover", "--yes", ...api], {
      planMove: () => Promise.resolve(plan),
      move: () => Promise.reject(new Fault("TIMEOUT", "The answer did not come")),
    });
    expect(code).toBe(3);
    expect(err).toContain("It may have taken effect: see pgherd status");
    expect(err).not.toContain("Nothing was changed.");
  });

  it("that did not happen ends with 1", async () => {
    const { code, err } = await run(["switchover", "--yes", ...api], {
      planMove: () => Promise.resolve(plan),
      move: () =>
        Promise.resolve({ ...moved, done: false, code: "SWITCHOVER_NO_CANDIDATE", message: "Nobody." }),
    });
    expect(code).toBe(1);
    expect(err).toContain("[SWITCHOVER_NO_CANDIDATE]");
  });

  it("of several nodes that fails after the first ends with 3 and says who is done", async () => {
    let calls = 0;
    const { code, err } = await run(["restart", "--all", "--yes", ...api], {
      restart: () => {
        calls += 1;
        return calls === 1
          ? Promise.resolve(true)
          : Promise.reject(new Fault("CLUSTER_PAUSED", "The cluster is paused"));
      },
    });
    expect(code).toBe(3);
    expect(err).toContain("Done on db2. Failed on db3. Not begun: db1.");
  });

  it("of an unknown node names the nearest one", async () => {
    const { code, err } = await run(["restart", "bd2", "--yes", ...api]);
    expect(code).toBe(1);
    expect(err).toContain("Did you mean db2?");
  });

  it("that is not needed is done already", async () => {
    const status = clusterStatus({ paused: true, nodes: [leaderStatus("db1"), nodeStatus("db2")] });
    const { code, out } = await run(["pause", "--json", ...api], { status: () => Promise.resolve(status) });
    expect(code).toBe(0);
    expect(JSON.parse(out)).toEqual({ paused: true, changed: false });
  });

  it("that is interrupted says that the agents go on, and ends with 3", async () => {
    const interruption = new AbortController();
    const { io, printed } = memoryIo({ interrupted: interruption.signal });
    const code = await runCli(
      ["switchover", "--yes", ...api],
      io,
      fakeConnect({
        planMove: () => Promise.resolve(plan),
        move: () => {
          interruption.abort();
          return new Promise(() => undefined);
        },
      }),
    );
    expect(code).toBe(3);
    expect(printed.err).toContain("What the agents were asked to do goes on");
  });
});

describe("node check", () => {
  it("has the codes of Nagios: 3 when nothing can be told", async () => {
    const { code, out } = await run(["node", "check", "db2", ...api], {
      status: () => Promise.reject(new Fault("API_UNREACHABLE", "No agent answers")),
    });
    expect(code).toBe(3);
    expect(out).toBe("PGHERD UNKNOWN - No agent answers\n");
  });
});
