// Faults of the network and of etcd.
import { fileURLToPath } from "node:url";
import { postgresPort } from "./host.mjs";
import { clientPort } from "./store.mjs";

const relay = fileURLToPath(new URL("./relay.mjs", import.meta.url));
const firstRelayPort = 6001;

/** Something that lasts longer than the ttl and is undone by the suite's repair. */
const lasting = (begin) => async (context) => {
  await begin(context);
  await context.hold(context.longer);
};

const names = (hosts) => hosts.map((host) => host.name);

/** Every new connection of a host's PostgreSQL user to these targets is slower by this much in each direction. */
async function slow({ network, user, until }, host, targets, ms) {
  const ways = targets.map((target, index) => ({ ...target, uid: user.uid, relay: firstRelayPort + index }));
  for (const way of ways) {
    const to = `${network.addresses.get(way.to)}:${way.port}`;
    await host.help([process.execPath, relay, String(way.relay), to, String(ms)]);
  }
  await network.detour(host.name, ways);
  await until(
    () => host.helpersSaid(" a connection to "),
    10_000,
    `a connection of ${host.name} through its relay`,
  );
}

const partitionLeader = {
  moves: true,
  about:
    "the leader hears neither etcd nor the standbys; clients reach it, their sessions stay open and write",
  strike: lasting(({ network, store, leader, standbys }) =>
    network.part([leader.name], [...store.hosts, ...names(standbys)]),
  ),
};

/** @type {import("./faults.mjs").Fault[]} */
export const networkFaults = [
  { name: "partition-leader", ...partitionLeader },
  { name: "partition-leader-of-two", hosts: 2, ...partitionLeader },
  {
    name: "partition-dcs",
    about: "nothing passes between the leader and etcd; with failsafe it leads on, without it another does",
    strike: lasting(({ network, store, leader }) => network.part([leader.name], store.hosts)),
  },
  {
    name: "partition-dcs-out",
    about: "what the leader sends does not arrive at etcd",
    strike: lasting(({ network, store, leader }) => network.block([leader.name], store.hosts)),
  },
  {
    name: "partition-dcs-in",
    about: "what etcd sends does not arrive at the leader",
    strike: lasting(({ network, store, leader }) => network.block(store.hosts, [leader.name])),
  },
  {
    name: "partition-standbys",
    moves: false,
    about: "nothing passes between the leader and the standbys; etcd hears them all",
    strike: lasting(({ network, leader, standbys }) => network.part([leader.name], names(standbys))),
  },
  {
    name: "partition-standbys-out",
    about: "what the leader sends does not arrive at the standbys",
    strike: lasting(({ network, leader, standbys }) => network.block([leader.name], names(standbys))),
  },
  {
    name: "partition-standbys-in",
    about: "what the standbys send does not arrive at the leader",
    strike: lasting(({ network, leader, standbys }) => network.block(names(standbys), [leader.name])),
  },
  {
    name: "partition-clients",
    moves: false,
    about: "nothing passes between the leader and the clients; no other node is needed",
    strike: lasting(({ network, leader }) => network.part([leader.name], ["client"])),
  },
  {
    name: "packet-loss",
    about: "a quarter of the packets to and from the leader is lost",
    strike: lasting(({ network, leader }) => network.lose(leader.name, 25)),
  },
  {
    name: "delay-dcs",
    moves: false,
    about: "the leader's connections to etcd are slower by 300 ms in each direction",
    strike: lasting((context) =>
      slow(
        context,
        context.leader,
        context.store.hosts.map((to) => ({ to, port: clientPort })),
        300,
      ),
    ),
  },
  {
    name: "delay-standbys",
    moves: false,
    about: "the standbys' connections to the leader's PostgreSQL are slower by 200 ms in each direction",
    strike: lasting(async (context) => {
      const target = { to: context.leader.name, port: postgresPort };
      await Promise.all(context.standbys.map((host) => slow(context, host, [target], 200)));
    }),
  },
  {
    name: "etcd-minority",
    moves: false,
    about: "SIGKILL of the member of etcd that leads it; started again after longer than the ttl",
    strike: lasting(async ({ store }) => store.kill(await store.leader())),
  },
  {
    name: "etcd-leader-freeze",
    moves: false,
    about: "SIGSTOP of the member of etcd that leads it, for longer than the ttl",
    strike: lasting(async ({ store }) => store.freeze(await store.leader())),
  },
  {
    name: "etcd-majority",
    about: "SIGKILL of two members of etcd; started again after longer than the ttl",
    strike: lasting(({ store }) => Promise.all(store.hosts.slice(0, 2).map((host) => store.kill(host)))),
  },
];
