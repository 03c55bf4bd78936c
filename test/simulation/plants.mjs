// Planted bugs: each replaces one piece of the program, or of the model where the program's adapter would have it, while it is
// loaded. The checkers must find every one of them. `old` must be there exactly once.

import { archivePlants } from "./plants-archive.mjs";
import { durabilityPlants } from "./plants-durability.mjs";

const agent = (file) => `src/agent/${file}.ts`;
const cluster = (file) => `src/cluster/${file}.ts`;
const model = (file) => `test/simulation/${file}.ts`;

/** @type {Readonly<Record<string, {readonly what: string, readonly scenario: string, readonly patches: readonly {file: string, old: string, new: string}[]}>>} */
export const plants = {
  "lease-from-reply": {
    scenario: "moments",
    what: "the deadline counts from the reply to a renewal, not from before it was sent (P2)",
    patches: [
      {
        file: agent("lease-keeper"),
        old: "version: result.revision, deadline, bootOffset }",
        new: "version: result.revision, deadline: instantAfter(clock.now(), heldForMs(lease.ttlMs, this.#options.stopMs())), bootOffset }",
      },
    ],
  },
  "early-observer": {
    scenario: "partitions",
    what: "an observer takes a lease for expired after six tenths of its time (P2)",
    patches: [
      {
        file: agent("lease-keeper"),
        old: "lease.ttlMs * (1 + clockDrift) - seenMs",
        new: "lease.ttlMs * 0.6 - seenMs",
      },
    ],
  },
  "no-guard": {
    scenario: "freezes",
    what: "no guard ends PostgreSQL at the deadline (P4)",
    patches: [{ file: model("guard"), old: "this.#deadline = deadline;", new: "this.#deadline = null;" }],
  },
  "postmaster-only": {
    scenario: "freezes",
    what: "only the postmaster is killed: backends at work outlive it (P3)",
    patches: [
      {
        file: model("postgres/postgres"),
        old: "this.server?.crash(true);\n    for (const backend of [...this.orphans]) backend.end();",
        new: "this.server?.crash(false);",
      },
    ],
  },
  "suspend-ignored": {
    scenario: "freezes",
    what: "time that the machine was suspended is not counted (P2)",
    patches: [
      {
        file: agent("lease-keeper"),
        old: "if (ms <= suspendMs) return;",
        new: "if (ms > -Infinity) return;",
      },
      { file: model("guard"), old: "- this.#bootOffset > suspendMs", new: "- this.#bootOffset > Infinity" },
    ],
  },
  "ttl-counted-late": {
    scenario: "moments",
    what: "a shorter ttl binds its holder only once the reply has come (P2)",
    patches: [
      {
        file: agent("lease-keeper"),
        old: "lease.ttlMs < this.#held.lease.ttlMs && deadline < this.#held.deadline",
        new: "lease.ttlMs < 0 && deadline < this.#held.deadline",
      },
    ],
  },
  "late-release": {
    scenario: "moves",
    what: "a release does not compare the renewal before it, so that a late one counts (P2)",
    patches: [
      {
        file: agent("lease-keeper"),
        old: "checks: [{ key: keys.lease, version }, ...also.checks]",
        new: 'checks: lease.state === "released" ? also.checks : [{ key: keys.lease, version }, ...also.checks]',
      },
    ],
  },
  "no-compare-and-swap": {
    scenario: "partitions",
    what: "whoever writes the lease last has it (F4)",
    patches: [
      {
        file: agent("lease-keeper"),
        old: "checks: [{ key: keys.lease, version }, ...also.checks]",
        new: "checks: also.checks",
      },
    ],
  },
  ...durabilityPlants,
  ...archivePlants,
  "candidate-outside": {
    scenario: "changes",
    what: "a node outside the recorded sets may be elected (I3)",
    patches: [
      {
        file: cluster("candidates"),
        old: "const to = !protectedNow || isRecorded(durability.value, member) ? ranked : others;",
        new: "const to = record.name.length > 0 || isRecorded(durability.value, member) ? ranked : others;",
      },
    ],
  },
  "one-promise-too-few": {
    scenario: "crashes",
    what: "an election is won with one promise too few (F3)",
    patches: [
      {
        file: cluster("durability"),
        old: "return present + entry.required <= entry.members.length;",
        new: "return present + entry.required < entry.members.length;",
      },
    ],
  },
  "record-not-compared": {
    scenario: "records",
    what: "an early takeover compares the lease's token and state alone, not the record that was promised under (F4, F7)",
    patches: [
      {
        file: agent("act-leadership"),
        old: "checks: [{ key: keys.durability, version: action.recordVersion }],",
        new: "checks: [],",
      },
      {
        file: cluster("candidates"),
        old: "ballot.recordVersion === recordVersion",
        new: "ballot.recordVersion <= recordVersion",
      },
      // Every change of the record is a renewal too: who compares the very renewal has compared the record.
      {
        file: agent("act-leadership"),
        old: "const won = await keeper.take(",
        new: 'const early = currentStanding(context).kind === "lost";\n  let won = await keeper.take(',
      },
      {
        file: agent("act-leadership"),
        old: 'context.log("info", "lease.take", { won,',
        new: `const now = won || !early ? before.lease : (await mirror.refresh(timeoutMs)).lease;
  if (now !== before.lease && now.value?.token === lease?.token && now.value?.state === lease?.state)
    won = await keeper.take({ ...record, renewal: now.value.renewal + 1 }, now, {
      checks: [],
      writes: entry === null ? [] : durabilityWrites([...recorded, entry]),
    });
  context.log("info", "lease.take", { won,`,
      },
    ],
  },
  "timeline-ignored": {
    scenario: "returns",
    what: "positions are compared without their timelines (F3)",
    patches: [
      {
        file: cluster("candidates"),
        old: "if (a.timeline !== b.timeline) return b.timeline - a.timeline;",
        new: "",
      },
    ],
  },
  "promise-forgotten": {
    scenario: "returns",
    what: "a promise does not outlive the agent (F2)",
    patches: [{ file: agent("membership"), old: "await files.write(promiseFile, String(token));", new: "" }],
  },
  "old-token-followed": {
    scenario: "returns",
    what: "who has promised a token still follows the holder of a lower one (F9)",
    patches: [
      { file: agent("observe"), old: "promised: context.membership.promised,", new: "promised: null," },
      {
        file: agent("lineage"),
        old: "if (membership.promised !== null && membership.promised > token) return null;",
        new: "void membership;",
      },
      {
        file: agent("observe"),
        old: "return promised !== null && token !== undefined && promised > token;",
        new: "return promised !== null && token !== undefined && promised > token + 99;",
      },
    ],
  },
  "promise-strands": {
    scenario: "changes",
    what: "a holder does not raise its token to a promise above it (F9)",
    patches: [
      {
        file: agent("lease-keeper"),
        old: 'if (lease.state !== "serving" || promised <= lease.token) return lease.token;',
        new: "if (promised >= 0) return lease.token;",
      },
    ],
  },
  "receiver-returns": {
    scenario: "returns",
    what: "the password stays when a receiver is ended, so that one comes back (F2)",
    patches: [
      {
        file: model("postgres/postgres"),
        old: "configuration.credential = upstream === null ? null : placeOf(upstream);",
        new: "if (upstream !== null) configuration.credential = placeOf(upstream);",
      },
    ],
  },
  "password-for-all": {
    scenario: null,
    what: "the password for the new leader lets a receiver with the old address back in there (F2)",
    patches: [
      {
        file: model("postgres/streaming"),
        old: "this.server.data.configuration.credential !== placeOf(this.upstream)",
        new: "this.server.data.configuration.credential === null",
      },
    ],
  },
  "received-trusted": {
    scenario: "crashes",
    what: "after a restart the position that the server shows is taken for the end of its WAL (F2)",
    patches: [
      {
        file: model("postgres/instance"),
        old: "lsn: toLsn(server.data.end) });\n      });",
        new: "lsn: toLsn(server.position) });\n      });",
      },
    ],
  },
  "lineage-unproven": {
    scenario: "crashes",
    what: "a standby counts without proof that its WAL is the primary's (S5)",
    patches: [
      {
        file: agent("lineage"),
        old: "const configured = await instance.configuredUpstream();",
        new: "if (token !== null) return token;\n  const configured = await instance.configuredUpstream();",
      },
    ],
  },
  "wiped-member-counts": {
    scenario: "crashes",
    what: "a node whose data was replaced goes on under its old incarnation (Words: Member)",
    patches: [
      {
        file: agent("membership"),
        old: "identity = await renewIncarnation(files, identity, random);",
        new: "void renewIncarnation; void identity; void random; await Promise.resolve();",
      },
    ],
  },
  "timeline-reused": {
    scenario: "moments",
    what: "the number of a promotion that was not finished is used again (I4, F4)",
    patches: [
      {
        file: agent("act-leadership"),
        old: "nextTimeline(highestTimeline(before))",
        new: "nextTimeline(before.history.value.at(-1)?.newTimeline ?? (1 as Timeline)); void highestTimeline",
      },
    ],
  },
  "successor-behind": {
    scenario: "crashes",
    what: "the named successor of a released lease takes it before it has all the WAL (F1)",
    patches: [
      {
        file: cluster("rules-election"),
        old: "view.postgres.lsn >= lease.lsn",
        new: "view.postgres.lsn >= 0n",
      },
    ],
  },
  "any-standby-counts": {
    scenario: "crashes",
    what: "synchronous_standby_names is * (S5)",
    patches: [
      {
        file: cluster("durability"),
        old: 'return `${ordered || graded ? "FIRST" : "ANY"} ${entry.required} (${names.join(", ")})`;',
        new: 'return `ANY ${entry.required} (*)${" ".repeat(names.length + Number(ordered || graded))}`;',
      },
    ],
  },
  "one-instead-of-two": {
    scenario: "changes",
    what: "commits wait for one standby where the record says two (S2)",
    patches: [
      {
        file: cluster("durability"),
        old: '${entry.required} (${names.join(", ")})`;',
        new: '${Math.min(1, entry.required)} (${names.join(", ")})`;',
      },
    ],
  },
  "least-advanced": {
    scenario: "crashes",
    what: "of those who promised the least advanced is elected (F3)",
    patches: [
      {
        file: cluster("candidates"),
        old: "if (a.lsn !== b.lsn) return a.lsn > b.lsn ? -1 : 1;",
        new: "if (a.lsn !== b.lsn) return a.lsn > b.lsn ? 1 : -1;",
      },
    ],
  },
  "diverged-followed": {
    scenario: "crashes",
    what: "WAL past the fork is not undone before a node follows (Rejoin)",
    patches: [
      {
        file: cluster("rejoin"),
        old: "fork === null ? facts.end > facts.leaderEnd : facts.end > fork",
        new: "fork === null && facts.end > facts.leaderEnd && facts.end < facts.leaderEnd",
      },
    ],
  },
  "early-unprotected": {
    scenario: "partitions",
    what: "a lease that has not run out is taken although no standby was recorded (F7)",
    patches: [
      {
        file: cluster("early-failover"),
        old: "tokenSeenMs < earlyHoldOffMs || !isProtected(record)",
        new: "tokenSeenMs < earlyHoldOffMs || record.length > 99 * Number(isProtected(record)) + 99",
      },
      {
        file: cluster("early-failover"),
        old: "return missingForF3(record, lost) === null;",
        new: "return lost.size > 0 || missingForF3(record, lost) === null;",
      },
    ],
  },
  "rewind-unsaved": {
    scenario: "crashes",
    what: "a rewind removes WAL that was not put aside (I6)",
    patches: [
      {
        file: model("postgres/copying"),
        old: "postgres.saved.push(beyond);\n    saved = true;",
        new: "",
      },
    ],
  },
};
