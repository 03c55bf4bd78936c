// Hosts made of network namespaces: each has an address on a bridge, which stands in a namespace of its own. Nothing of
// this machine's own network is touched. What does not pass is dropped where it arrives, as a broken network would.
import { execFile } from "node:child_process";
import { promisify } from "node:util";

const run = promisify(execFile);
const limit = { timeout: 20_000 };

/** The file that stands for a host's network namespace. */
export const namespaceFile = (tag, host) => `/run/netns/pgherd-fault-${tag}-${host}`;
const namespaceName = (tag, host) => `pgherd-fault-${tag}-${host}`;

/** Puts in front of a command what makes it run on a host, as a user. */
export function onHost(tag, host, argv, user) {
  const identity =
    user === undefined
      ? []
      : ["setpriv", `--reuid=${user.uid}`, `--regid=${user.gid}`, "--clear-groups", "--"];
  return ["nsenter", `--net=${namespaceFile(tag, host)}`, ...identity, ...argv];
}

/**
 * Makes the hosts and the bridge between them.
 * @param {string} tag names the run; the namespaces are called after it
 * @param {Map<string, string>} addresses of each host, in one /24
 */
export async function makeNetwork(tag, addresses) {
  const bridge = namespaceName(tag, "switch");
  await run("ip", ["netns", "add", bridge], limit);
  await run("ip", ["-n", bridge, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0"], limit);
  await run("ip", ["-n", bridge, "link", "set", "br0", "up"], limit);
  for (const [host, address] of addresses) {
    const name = namespaceName(tag, host);
    await run("ip", ["netns", "add", name], limit);
    const wire = ["link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", name];
    await run("ip", ["-n", bridge, ...wire], limit);
    await run("ip", ["-n", bridge, "link", "set", host, "master", "br0", "up"], limit);
    await run("ip", ["-n", name, "link", "set", "lo", "up"], limit);
    await run("ip", ["-n", name, "address", "add", `${address}/24`, "dev", "eth0"], limit);
    await run("ip", ["-n", name, "link", "set", "eth0", "up"], limit);
  }
}

/** @typedef {ReturnType<typeof openNetwork>} Network */

/** The network of a run, to break and to mend. */
export function openNetwork(tag, addresses) {
  /** Which host drops what from whom. */
  const blocked = new Map([...addresses.keys()].map((host) => [host, new Set()]));
  /** Of what arrives at a host, how many packets of a hundred are lost: from everybody, or from this host. */
  const losses = [];
  /** Ways out of a host that lead through a relay on it. */
  const detours = new Map();

  const nft = (host, text) =>
    new Promise((resolve, reject) => {
      const child = execFile(
        "nsenter",
        [`--net=${namespaceFile(tag, host)}`, "nft", "-f", "-"],
        limit,
        (error) => (error === null ? resolve() : reject(error)),
      );
      child.stdin.end(text);
    });

  const apply = async (hosts = [...addresses.keys()]) => {
    await Promise.all(hosts.map((host) => nft(host, ruleset(host))));
  };

  const ruleset = (host) => {
    const drops = [...blocked.get(host)].map((from) => `ip saddr ${addresses.get(from)} drop`);
    const lost = losses
      .filter(({ at }) => at === host)
      .map(({ from, percent }) => {
        const whose = from === null ? "" : `ip saddr ${addresses.get(from)} `;
        return `${whose}numgen random mod 100 < ${percent} drop`;
      });
    const ways = (detours.get(host) ?? []).map(
      ({ to, port, uid, relay }) =>
        `ip daddr ${addresses.get(to)} tcp dport ${port} meta skuid ${uid} redirect to :${relay}`,
    );
    return `table inet fault
delete table inet fault
table inet fault {
  chain arriving {
    type filter hook input priority 0;
    iifname "lo" accept
    ${[...drops, ...lost].join("\n    ")}
  }
}
table ip fault_ways
delete table ip fault_ways
table ip fault_ways {
  chain leaving {
    type nat hook output priority -100;
    ${ways.join("\n    ")}
  }
}
`;
  };

  return {
    addresses,
    /** Nothing from `sources` arrives at `targets` any more. One direction only. */
    async block(sources, targets) {
      for (const to of targets) for (const from of sources) if (from !== to) blocked.get(to).add(from);
      await apply(targets);
    },
    /** Nothing passes between these and those. */
    async part(ones, others) {
      await this.block(ones, others);
      await this.block(others, ones);
    },
    /** Loses packets of this host, coming and going. */
    async lose(host, percent) {
      losses.push({ at: host, from: null, percent });
      for (const other of addresses.keys())
        if (other !== host) losses.push({ at: other, from: host, percent });
      await apply();
    },
    /**
     * New connections of a user of this host take a relay; those that stand are cut.
     * @param {string} host
     * @param {{to: string, port: number, uid: number, relay: number}[]} ways
     */
    async detour(host, ways) {
      detours.set(host, ways);
      await apply([host]);
      await cut(host, ways);
    },
    /** Everything passes again. */
    async mend() {
      for (const set of blocked.values()) set.clear();
      losses.length = 0;
      const detoured = [...detours];
      detours.clear();
      await apply();
      for (const [host, ways] of detoured) await cut(host, ways);
    },
  };

  /** Resets the connections of a host to these targets. */
  async function cut(host, ways) {
    const rules = ways.map(
      ({ to, port }) =>
        `ip daddr ${addresses.get(to)} tcp dport ${port} ct state established reject with tcp reset`,
    );
    const table = (body) => `table ip fault_cut\ndelete table ip fault_cut\n${body}`;
    await nft(
      host,
      table(`table ip fault_cut {
  chain leaving {
    type filter hook output priority 0;
    ${rules.join("\n    ")}
  }
}
`),
    );
    await new Promise((resolve) => setTimeout(resolve, 600));
    await nft(host, table(""));
  }
}
