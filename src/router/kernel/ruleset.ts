import type { ListenMatch } from "./match.ts";

/** Where the connections of one family go now. */
export interface KernelTarget {
  readonly address: string;
  readonly port: number;
  /** It is an address of this host. */
  readonly local: boolean;
}

export interface RulesetFacts {
  readonly table: string;
  readonly match: ListenMatch;
  /** The listener's port. */
  readonly port: number;
  /** null = this family has nowhere to go: the port refuses. */
  readonly four: KernelTarget | null;
  readonly six: KernelTarget | null;
  /** How long the elements live without a refresh. */
  readonly timeoutMs: number;
  /** Servers see this host instead of the client. */
  readonly masquerade: boolean;
  /** Whether the kernel forwards: without it a remote client's packets would vanish instead of being refused. */
  readonly forwards: { readonly four: boolean; readonly six: boolean };
  /** Whether 127.0.0.0/8 may leave this host after its destination was changed. */
  readonly routesLoopback: boolean;
  /** Who may come in: the first that matches decides, and whom none matches is refused; none at all = everybody. */
  readonly admission: readonly KernelAdmission[];
}

/** An access rule as far as the kernel can tell: where a connection comes from. */
export interface KernelAdmission {
  /** Networks in CIDR form, addresses, or `all`. */
  readonly addresses: readonly string[];
  readonly admits: boolean;
}

type Family = "four" | "six";
const words = {
  four: { ip: "ip", type: "ipv4_addr", nfproto: "ipv4", loopback: "127.0.0.0/8" },
  six: { ip: "ip6", type: "ipv6_addr", nfproto: "ipv6", loopback: "::1" },
} as const;
const families: readonly Family[] = ["four", "six"];

/** The table of a listener: at most 255 characters, of those nft takes unquoted. */
export function tableName(router: string, listener: string): string {
  return `pgherd_${router}_${listener}`.replaceAll(/[^A-Za-z0-9_]/g, "_").slice(0, 200);
}

/**
 * The transaction that makes the listener's table what it shall be, whatever it was before. Adding what is there is no error to nft, so
 * that the same text creates, changes, repairs and refreshes.
 */
export function rulesetText(facts: RulesetFacts): string {
  const { table, port } = facts;
  const t = `inet ${table}`;
  const chain = (name: string, type: string, hook: string, priority: string, rules: string[]): string[] => [
    `add chain ${t} ${name} { type ${type} hook ${hook} priority ${priority}; policy accept; }`,
    `flush chain ${t} ${name}`,
    ...rules.map((rule) => `add rule ${t} ${name} ${rule}`),
  ];
  const both = (rule: (family: Family) => readonly string[]): string[] => families.flatMap(rule);
  return [
    `add table ${t}`,
    ...families.map(
      (family) =>
        `add map ${t} ${family} { type inet_service : ${words[family].type} . inet_service; flags timeout; }`,
    ),
    // Where the loopback network may be routed, nobody from outside shall reach it.
    ...chain("protect", "filter", "prerouting", "raw", [
      ...(facts.routesLoopback ? [`iifname != "lo" ip daddr 127.0.0.0/8 drop`] : []),
    ]),
    ...chain(
      "incoming",
      "nat",
      "prerouting",
      "dstnat",
      both((family) => incoming(facts, family)),
    ),
    ...chain(
      "own",
      "nat",
      "output",
      "-100",
      both((family) => own(facts, family)),
    ),
    ...chain(
      "leaving",
      "nat",
      "postrouting",
      "srcnat",
      both((family) => leaving(facts, family)),
    ),
    // What was not sent on has no server: the client is told at once.
    ...chain(
      "refuse",
      "filter",
      "input",
      "-5",
      both((family) =>
        matches(facts.match, family).map(
          (match) => `${match} tcp dport ${port} ct status & dnat == 0 reject with tcp reset`,
        ),
      ),
    ),
    ...families.flatMap((family) => element(facts, family)),
    "",
  ].join("\n");
}

/** Removes the table; first adds it, because removing what is not there is an error. */
export function removalText(table: string): string {
  return `add table inet ${table}\ndelete table inet ${table}\n`;
}

/** The match of each destination, in the words of nft. */
function matches(match: ListenMatch, family: Family): string[] {
  const { ip, nfproto } = words[family];
  const chosen = match[family];
  if (chosen === "local") return [`meta nfproto ${nfproto} fib daddr type local`];
  return chosen.map((address) => `${ip} daddr ${address}`);
}

function translate(family: Family): string {
  return `dnat ${words[family].ip} to tcp dport map @${family}`;
}

function incoming(facts: RulesetFacts, family: Family): string[] {
  const target = facts[family];
  if (target !== null && !target.local && !facts.forwards[family]) return [];
  return matches(facts.match, family).flatMap((match) =>
    admitted(facts, family, `iifname != "lo" ${match} `),
  );
}

/** The translation for whom the access rules admit; others go on untranslated, and are refused. */
function admitted({ admission, port }: RulesetFacts, family: Family, match: string): string[] {
  if (admission.length === 0) return [`${match}${translate(family)}`];
  return admission.flatMap(({ addresses, admits }) =>
    sources(addresses, family).map(
      (source) => `${match}${source}${admits ? translate(family) : `tcp dport ${port} return`}`,
    ),
  );
}

/** The match of each source in this family, in the words of nft. */
function sources(addresses: readonly string[], family: Family): string[] {
  if (addresses.includes("all")) return [""];
  const { ip } = words[family];
  return addresses
    .filter((address) => address.includes(":") === (family === "six"))
    .map((address) => `${ip} saddr ${address} `);
}

function own(facts: RulesetFacts, family: Family): string[] {
  const target = facts[family];
  const { ip, loopback } = words[family];
  // A loopback address cannot leave the host: the packet would vanish, and the client wait.
  const stays = target?.local === true || (family === "four" && facts.routesLoopback);
  return matches(facts.match, family).flatMap((match) =>
    admitted(facts, family, `${match} ${stays ? "" : `${ip} daddr != ${loopback} `}`),
  );
}

function leaving(facts: RulesetFacts, family: Family): string[] {
  const target = facts[family];
  if (target === null || target.local) return [];
  const { ip, loopback } = words[family];
  // A server cannot answer to a loopback address, whatever the setting says.
  const whose = facts.masquerade ? "" : `${ip} saddr ${loopback} `;
  return [
    `oifname != "lo" ${whose}${ip} daddr ${target.address} tcp dport ${target.port} ct status & dnat == dnat ct original proto-dst ${facts.port} masquerade`,
  ];
}

function element(facts: RulesetFacts, family: Family): string[] {
  const target = facts[family];
  const t = `inet ${facts.table} ${family}`;
  const timeout = Math.floor(facts.timeoutMs);
  const add = `add element ${t} { ${facts.port} timeout ${timeout}ms : ${target?.address ?? ""} . ${target?.port ?? 0} }`;
  // Adding an element that is there does not lengthen its life: it is made anew in the same transaction.
  return [`flush map ${t}`, ...(target === null || timeout < 1 ? [] : [add])];
}
