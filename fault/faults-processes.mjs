// Faults of processes and of whole hosts.
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { postgresBinDir } from "../scripts/requirements.mjs";

/** The library that shows one process another time; undefined = not installed. */
export function faketimeLibrary() {
  return readdirSync("/usr/lib")
    .map((name) => join("/usr/lib", name, "faketime/libfaketime.so.1"))
    .find((path) => existsSync(path));
}

/** A host that loses its power: nobody hears anything from it, not even that its connections are gone. */
async function powerOff({ network }, host) {
  const others = [...network.addresses.keys()].filter((name) => name !== host.name);
  await network.part([host.name], others);
  await host.powerOff();
}

const killHost = {
  moves: true,
  about: "every process of the leader's host, and nothing it sends or is sent arrives; back when writes are",
  async strike(context) {
    await powerOff(context, context.leader);
    await context.recovered();
  },
};

const runs = (context) => (name) => context.cluster.host(name).parts().postmaster !== null;

/** Freezes, holds, thaws. */
const frozen = (choose) => async (context) => {
  await context.leader.freeze(choose);
  await context.hold(context.longer);
  context.leader.thaw();
};

/** @type {import("./faults.mjs").Fault[]} */
export const processFaults = [
  {
    name: "kill-postgres",
    about: "SIGKILL of the leader's postmaster",
    strike: ({ leader }) => leader.kill("postmaster"),
  },
  {
    name: "kill-agent",
    moves: false,
    about: "SIGKILL of the leader's agent; its supervisor starts it again",
    strike: ({ leader }) => leader.kill("agent"),
  },
  {
    name: "kill-guard",
    moves: false,
    about: "SIGKILL of the leader's guard",
    strike: ({ leader }) => leader.kill("guard"),
  },
  {
    name: "kill-agent-and-guard",
    moves: false,
    about: "SIGKILL of the leader's agent and guard; the supervisor starts the agent again",
    strike: ({ leader }) => leader.kill("agent", "guard"),
  },
  {
    name: "kill-supervision",
    moves: true,
    unguarded: true,
    about: "SIGKILL of supervisor, agent and guard: PostgreSQL alone is left, longer than the ttl",
    async strike({ leader, hold, longer }) {
      await leader.endSupervision();
      await hold(longer);
    },
  },
  { name: "kill-host", ...killHost },
  { name: "kill-host-of-two", hosts: 2, ...killHost },
  {
    name: "kill-standby",
    moves: false,
    about: "every process of a standby's host, as kill-host",
    async strike(context) {
      await powerOff(context, context.standbys[0]);
      await context.hold(4000);
    },
  },
  {
    name: "kill-both-standbys",
    moves: false,
    about: "both standbys' hosts at once, as kill-host",
    async strike(context) {
      await Promise.all(context.standbys.map((host) => powerOff(context, host)));
      await context.hold(context.longer);
    },
  },
  {
    name: "kill-standbys-then-leader",
    about: "both standbys' hosts, then the leader's; the standbys come back first, without its last commits",
    async strike(context) {
      await Promise.all(context.standbys.map((host) => powerOff(context, host)));
      await context.hold(context.ttlMs);
      await powerOff(context, context.leader);
      const names = context.standbys.map((host) => host.name);
      await context.network.mend();
      await context.network.part([context.leader.name], [...context.network.addresses.keys()]);
      await Promise.all(context.standbys.map((host) => host.startAgent()));
      await context.until(() => names.every(runs(context)), 30_000, "PostgreSQL on the standbys");
      await context.hold(context.longer);
    },
  },
  {
    name: "freeze-agent",
    moves: true,
    about: "SIGSTOP of the leader's agent for longer than the ttl, then SIGCONT",
    strike: frozen(({ agent }) => [agent].filter((pid) => pid !== null)),
  },
  {
    name: "freeze-postgres",
    about: "SIGSTOP of the leader's PostgreSQL, every process, for longer than the ttl, then SIGCONT",
    strike: frozen(({ postgres }) => postgres),
  },
  {
    name: "freeze-host",
    moves: true,
    about: "SIGSTOP of every process of the leader's host for longer than the ttl, then SIGCONT",
    strike: frozen(),
  },
  {
    name: "clock-step",
    moves: false,
    about: "the clock of the leader's agent goes an hour ahead, then an hour back (libfaketime)",
    possible: () => (faketimeLibrary() === undefined ? "libfaketime is not installed" : null),
    async prepare(context) {
      const { leader, cluster } = context;
      context.clockFile = join(leader.place, "clock");
      writeFileSync(context.clockFile, "+0\n");
      await leader.endAgent();
      await leader.startAgent({
        LD_PRELOAD: faketimeLibrary(),
        FAKETIME_TIMESTAMP_FILE: context.clockFile,
        FAKETIME_NO_CACHE: "1",
        FAKETIME_SKIP_CMDS: "postgres,pg_ctl,pg_controldata,initdb,pg_basebackup,pg_rewind",
        DONT_FAKE_MONOTONIC: "1",
        FAKETIME_DONT_FAKE_MONOTONIC: "1",
      });
      await cluster.whole(60_000);
    },
    async strike({ clockFile, hold, ttlMs }) {
      writeFileSync(clockFile, "+3600\n");
      await hold(ttlMs);
      writeFileSync(clockFile, "-3600\n");
      await hold(ttlMs);
      writeFileSync(clockFile, "+0\n");
    },
    async after({ leader }) {
      await leader.endAgent();
      await leader.startAgent(); // at once: an agent that stays away longer than the ttl is another fault
    },
  },
  {
    name: "hand-started-primary",
    moves: true,
    about: "as kill-host; when another leads, a person starts PostgreSQL on the old primary's data directory",
    async strike(context) {
      const { leader, network } = context;
      await powerOff(context, leader);
      await context.recovered();
      await network.mend();
      const hba = join(leader.place, "by-hand.hba");
      writeFileSync(hba, "local all all trust\nhost all all all scram-sha-256\n", { mode: 0o644 });
      const options = `-k ${leader.place} -c listen_addresses=* -c hba_file=${hba}`;
      const argv = [join(postgresBinDir(), "pg_ctl"), "-D", leader.dataDir, "-W", "start", "-o", options];
      await leader.launch(argv, `${leader.log}.by-hand`);
      await context.until(() => leader.parts().postmaster !== null, 10_000, "PostgreSQL started by hand");
      await context.hold(context.longer);
    },
  },
];
