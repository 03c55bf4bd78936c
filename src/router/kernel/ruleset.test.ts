import { describe, expect, it } from "vitest";
import { listenMatch } from "./match.ts";
import { removalText, rulesetText, tableName, type RulesetFacts } from "./ruleset.ts";

const facts: RulesetFacts = {
  table: "pgherd_r1_primary",
  match: listenMatch("*", []),
  port: 5000,
  four: { address: "10.0.0.2", port: 5432, local: false },
  six: null,
  timeoutMs: 2500.7,
  masquerade: true,
  forwards: { four: true, six: false },
  routesLoopback: true,
  admission: [],
};

function rules(text: string, chain: string): string[] {
  const prefix = `add rule inet pgherd_r1_primary ${chain} `;
  return text
    .split("\n")
    .filter((line) => line.startsWith(prefix))
    .map((line) => line.slice(prefix.length));
}

describe("the transaction of a kernel listener", () => {
  it("states every rule, with the element made anew", () => {
    const text = rulesetText(facts);
    expect(rules(text, "incoming")).toEqual([
      'iifname != "lo" meta nfproto ipv4 fib daddr type local dnat ip to tcp dport map @four',
      'iifname != "lo" meta nfproto ipv6 fib daddr type local dnat ip6 to tcp dport map @six',
    ]);
    expect(rules(text, "own")).toEqual([
      "meta nfproto ipv4 fib daddr type local dnat ip to tcp dport map @four",
      "meta nfproto ipv6 fib daddr type local ip6 daddr != ::1 dnat ip6 to tcp dport map @six",
    ]);
    expect(rules(text, "leaving")).toEqual([
      'oifname != "lo" ip daddr 10.0.0.2 tcp dport 5432 ct status & dnat == dnat ct original proto-dst 5000 masquerade',
    ]);
    expect(rules(text, "protect")).toEqual(['iifname != "lo" ip daddr 127.0.0.0/8 drop']);
    expect(rules(text, "refuse")).toHaveLength(2);
    expect(text).toContain(
      "flush map inet pgherd_r1_primary four\nadd element inet pgherd_r1_primary four { 5000 timeout 2500ms : 10.0.0.2 . 5432 }",
    );
    expect(text).not.toMatch(/add element inet pgherd_r1_primary six/);
  });

  it("translates for whom the access rules admit, in their order, and for nobody else", () => {
    const text = rulesetText({
      ...facts,
      admission: [
        { addresses: ["10.0.0.66", "fd00::66"], admits: false },
        { addresses: ["10.0.0.0/8"], admits: true },
      ],
    });
    expect(rules(text, "incoming")).toEqual([
      'iifname != "lo" meta nfproto ipv4 fib daddr type local ip saddr 10.0.0.66 tcp dport 5000 return',
      'iifname != "lo" meta nfproto ipv4 fib daddr type local ip saddr 10.0.0.0/8 dnat ip to tcp dport map @four',
      'iifname != "lo" meta nfproto ipv6 fib daddr type local ip6 saddr fd00::66 tcp dport 5000 return',
    ]);
    expect(rules(text, "own").filter((rule) => rule.includes("dnat"))).toEqual([
      "meta nfproto ipv4 fib daddr type local ip saddr 10.0.0.0/8 dnat ip to tcp dport map @four",
    ]);
  });

  it("has no element while nobody serves, or when the knowledge has run out", () => {
    expect(rulesetText({ ...facts, four: null })).not.toContain("add element");
    expect(rulesetText({ ...facts, timeoutMs: 0 })).not.toContain("add element");
    expect(rulesetText({ ...facts, timeoutMs: -20 })).not.toContain("add element");
  });

  it("sends nothing on that would vanish on the way: it is refused then", () => {
    const text = rulesetText({ ...facts, forwards: { four: false, six: false }, routesLoopback: false });
    expect(rules(text, "incoming").filter((rule) => rule.includes("@four"))).toEqual([]);
    expect(rules(text, "own")[0]).toContain("ip daddr != 127.0.0.0/8");
    expect(rules(text, "protect")).toEqual([]);
  });

  it("neither forwards nor hides anybody towards a server on this very host", () => {
    const text = rulesetText({ ...facts, four: { address: "10.0.0.1", port: 5432, local: true } });
    expect(rules(text, "leaving")).toEqual([]);
    expect(rules(text, "own")[0]).not.toContain("127.0.0.0/8");
  });

  it("hides only who could not be answered otherwise, if the servers shall see the clients", () => {
    expect(rules(rulesetText({ ...facts, masquerade: false }), "leaving")).toEqual([
      expect.stringContaining("ip saddr 127.0.0.0/8"),
    ]);
  });

  it("stands for the listener's own addresses only", () => {
    const text = rulesetText({ ...facts, match: listenMatch("10.0.0.100", []) });
    expect(rules(text, "incoming")).toEqual([
      'iifname != "lo" ip daddr 10.0.0.100 dnat ip to tcp dport map @four',
    ]);
    expect(rules(text, "refuse")).toEqual([
      "ip daddr 10.0.0.100 tcp dport 5000 ct status & dnat == 0 reject with tcp reset",
    ]);
  });

  it("has a table of its own whose name nft takes", () => {
    expect(tableName("router-1.example", "read/write")).toBe("pgherd_router_1_example_read_write");
    expect(removalText("pgherd_x")).toBe("add table inet pgherd_x\ndelete table inet pgherd_x\n");
  });
});

describe("the addresses of a listener", () => {
  it.each([
    ["*", [], { four: "local", six: "local" }],
    ["::", [], { four: "local", six: "local" }],
    ["0.0.0.0", [], { four: "local", six: [] }],
    ["127.0.0.1", [], { four: ["127.0.0.1"], six: [] }],
    ["fd00::1", [], { four: [], six: ["fd00::1"] }],
    ["db.example", ["10.0.0.1", "fd00::1"], { four: ["10.0.0.1"], six: ["fd00::1"] }],
  ])("%s", (listen, resolved, match) => {
    expect(listenMatch(listen, resolved)).toEqual(match);
  });
});
