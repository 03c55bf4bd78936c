// Planted bugs in how a backup server's WAL receiver counts and promises; plants.mjs has the others.

const member = (file) => `src/backup/member/${file}.ts`;
const cluster = (file) => `src/cluster/${file}.ts`;
const model = (file) => `test/simulation/archive/${file}.ts`;

/** @type {Readonly<Record<string, {readonly scenario: string, readonly what: string, readonly patches: readonly {file: string, old: string, new: string}[]}>>} */
export const archivePlants = {
  "archive-acks-early": {
    scenario: "archive",
    what: "a WAL receiver acknowledges what is not durable yet",
    patches: [
      {
        file: model("stream"),
        old: "for (const record of records) this.data.records.push(record);",
        new: "for (const record of records) this.data.records.push(record);\n    this.#reply();",
      },
      {
        file: model("stream"),
        old: "data.endOf(data.flushed);",
        new: "data.endOf(data.records.length);",
      },
    ],
  },
  "archive-streams-on": {
    scenario: "archive",
    what: "a WAL receiver goes on receiving after its promise (F2)",
    patches: [
      {
        file: member("receiver-member"),
        old: "this.#aim(null);\n    await this.#receiving.stop();",
        new: "",
      },
      {
        file: member("receiver-member"),
        old: "if (this.#target !== null) this.#aim(null);",
        new: "",
      },
    ],
  },
  "archive-follows-lower": {
    scenario: "archive",
    what: "a WAL receiver that has promised a token follows the holder of a lower one (F9)",
    patches: [
      {
        file: member("step"),
        old: "const heldBack = promised !== null && promised > lease.token;",
        new: "const heldBack = promised !== null && promised > lease.token + 99;",
      },
    ],
  },
  "archive-promise-forgotten": {
    scenario: "moments",
    what: "a WAL receiver does not know after a restart what it promised (F2)",
    patches: [
      {
        file: member("kept"),
        old: "return { incarnation, promised: token };",
        new: "return { incarnation, promised: null };",
      },
    ],
  },
  "archive-wal-left": {
    scenario: "archive",
    what: "a candidate takes the lease without the WAL that only the receiver has (F3)",
    patches: [
      {
        file: cluster("rules-election"),
        old: "return takeWal(view, view.cluster, election, election.own);",
        new: "return null;",
      },
    ],
  },
};
