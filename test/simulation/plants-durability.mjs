// Planted bugs in how the durability record, PostgreSQL and the standbys are kept together; plants.mjs has the others.

const agent = (file) => `src/agent/${file}.ts`;
const cluster = (file) => `src/cluster/${file}.ts`;
const model = (file) => `test/simulation/${file}.ts`;

/** @type {Readonly<Record<string, {readonly scenario: string, readonly what: string, readonly patches: readonly {file: string, old: string, new: string}[]}>>} */
export const durabilityPlants = {
  "postgres-first": {
    scenario: "changes",
    what: "PostgreSQL is changed before the record (S1)",
    patches: [
      {
        file: cluster("durability"),
        old: "if (!mayFinish && record.length < durabilityEntryLimit)",
        new: `if (!mayFinish && facts.applied?.names !== synchronousNames(wanted, facts))
      return { kind: "apply", names: synchronousNames(wanted, facts) };
    if (!mayFinish && record.length < durabilityEntryLimit)`,
      },
    ],
  },
  "record-replaced": {
    scenario: "changes",
    what: "the new set is written in place of the old one, not beside it (S1)",
    patches: [{ file: cluster("durability"), old: "entries: [...record, wanted]", new: "entries: [wanted]" }],
  },
  "no-barrier": {
    scenario: "changes",
    what: "the old set is removed before the new one has what was acknowledged (S3)",
    patches: [
      {
        file: cluster("durability"),
        old: "if (!hasFlushed(goal, facts.standbys, facts.applied.barrier))",
        new: "if (!hasFlushed(goal, facts.standbys, 0n as Lsn))",
      },
    ],
  },
  "record-without-lease": {
    scenario: "partitions",
    what: "the record is changed without comparing anything (S1)",
    patches: [
      {
        file: agent("durability-keeper"),
        old: `keeper.change((lease) => lease, {
      checks: [{ key: keys.durability, version: cluster.durability.version }],
      writes: durabilityWrites(entries),
    });`,
        new: `((result) => result.outcome === "committed")(
      await this.#context.dcs.transact({ checks: [], writes: durabilityWrites(entries) }, 2000),
    ); void keeper;`,
      },
    ],
  },
  "checkpointer-not-awaited": {
    scenario: "changes",
    what: "commits are taken to wait before the checkpointer has read the configuration (S2)",
    patches: [
      {
        file: model("postgres/apply-synchronous"),
        old: 'if (names !== "" && !waited)',
        new: "if (names.length < 0 && !waited)",
      },
    ],
  },
  "walsender-not-awaited": {
    scenario: "moments",
    what: "walsenders with the old configuration still release commits (S2)",
    patches: [
      {
        file: model("postgres/apply-synchronous"),
        old: "const isWrong = (sender: WalSender): boolean => sender.loaded !== names;",
        new: "const isWrong = (sender: WalSender): boolean => sender.loaded.length < 0;",
      },
      {
        file: model("postgres/apply-synchronous"),
        old: "if (change.dropSenders) await",
        new: "if (change.dropSenders && names.length < 0) await",
      },
    ],
  },
  "unprotected-unrecorded": {
    scenario: "changes",
    what: "writes go on without a standby before the record says so (degrade)",
    patches: [
      {
        file: cluster("durability"),
        old: "if (!mayFinish && record.length < durabilityEntryLimit)",
        new: `if (wanted.required === 0 && facts.applied?.names !== "") return { kind: "apply", names: "" };
    if (!mayFinish && record.length < durabilityEntryLimit)`,
      },
    ],
  },
  "names-after-promotion": {
    scenario: "crashes",
    what: "a new primary writes before it waits for anybody (P6)",
    patches: [
      {
        file: cluster("durability"),
        old: "if (latest !== undefined) return synchronousNames(latest, facts);",
        new: 'if (latest !== undefined) return "";',
      },
    ],
  },
  "clients-after-crash": {
    scenario: "crashes",
    what: "after a crash clients are let in at once (P6)",
    patches: [
      {
        file: agent("act-postgres"),
        old: "await membership.setClosed(true);",
        new: "await membership.setClosed(false);",
      },
    ],
  },
};
