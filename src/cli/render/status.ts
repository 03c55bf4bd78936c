import type { NodeState } from "../../cluster/records.ts";
import { problemLine, type ClusterStatus, type NodeStatus } from "../../cluster/status.ts";
import type { Look, Mark, Tone } from "./look.ts";
import { markTone } from "./look.ts";
import { ageText, bytesText, dateTimeText, epochMs } from "./quantity.ts";
import { archiveTable } from "./archives.ts";
import { routerTable } from "./routers.ts";
import { tableLines, type Column, type Row } from "./table.ts";
import { displayWidth, printable, wrapTo } from "./width.ts";

/** The status as lines: one sentence, the table of the nodes, and what needs attention. Pure. */
export function statusLines(status: ClusterStatus, look: Look): string[] {
  const notes = noteLines(status, look);
  return [
    ...wrapSentence(sentence(status, look), look),
    "",
    ...(status.nodes.length === 0 ? ["  No node has registered yet."] : nodeTable(status, look)),
    ...archiveTable(status.archives, look),
    ...routerTable(status.routers, look),
    ...notes,
  ];
}

interface Note {
  readonly mark: Mark;
  readonly text: string;
}

/** States that pass by themselves: pgherd is working on it. */
const working: ReadonlySet<NodeState> = new Set<NodeState>([
  "initializing",
  "cloning",
  "rewinding",
  "starting",
  "promoting",
  "stopping",
]);

function sentence(status: ClusterStatus, look: Look): string[] {
  const parts = [look.paint("bold", status.cluster), health(status, look), protection(status)];
  if (status.timeline !== null) parts.push(`timeline ${status.timeline}`);
  parts.push(leadership(status, look));
  if (status.paused) parts.push(look.paint("warn", "paused"));
  if (status.failover === "manual") parts.push("failover manual");
  return parts;
}

/** The parts joined by a middle dot, broken between parts when they do not fit. */
function wrapSentence(parts: readonly string[], look: Look): string[] {
  const lines: string[] = [];
  for (const part of parts) {
    const last = lines.at(-1);
    if (last !== undefined && displayWidth(`${last} · ${part}`) <= look.width)
      lines[lines.length - 1] = `${last} · ${part}`;
    else lines.push(last === undefined ? part : `  ${part}`);
  }
  return lines;
}

function health(status: ClusterStatus, look: Look): string {
  switch (status.health) {
    case "ok":
      return look.paint("good", "healthy");
    case "degraded": {
      const count = attention(status).filter((note) => note.mark !== "~").length;
      return look.paint("warn", count === 0 ? "healing" : `needs attention: ${count}`);
    }
    case "down":
      return look.paint("bad", "down");
  }
}

function protection(status: ClusterStatus): string {
  const { durability } = status;
  if (durability.protected) {
    const all = durability.required >= durability.members.length;
    return `protected by ${all ? "" : `${durability.required} of `}${durability.members.join(", ")}`;
  }
  const { exposed_bytes: bytes, exposed_s: seconds } = durability;
  const risk = bytes === null ? [] : [`${bytesText(bytes)} at risk`];
  const since = seconds === null ? [] : [`for ${ageText(seconds * 1000)}`];
  const detail = [...risk, ...since].join(", ");
  return detail === "" ? "not protected" : `not protected (${detail})`;
}

function leadership(status: ClusterStatus, look: Look): string {
  if (status.leader === null) return look.paint("bad", "no leader");
  const since = status.leader_since === null ? null : epochMs(status.leader_since);
  return `leader ${status.leader}${since === null ? "" : ` since ${ageText(look.nowMs - since)}`}`;
}

const columns: readonly Column[] = [
  { title: "node", least: 6 },
  { title: "host", least: 10 },
  { title: "role", least: 7 },
  { title: "state", least: 9 },
  { title: "timeline", align: "right" },
  { title: "lag", align: "right" },
  { title: "replay", align: "right", dropOrder: 2 },
  { title: "upstream", least: 6 },
  { title: "location", optional: true, least: 6 },
  { title: "priority", optional: true, align: "right" },
  { title: "restart", optional: true },
  { title: "tags", optional: true },
  { title: "since", dropOrder: 1 },
];

function nodeTable(status: ClusterStatus, look: Look): string[] {
  const rows = status.nodes.map((node) => nodeRow(node, status, look));
  return tableLines(columns, rows, look);
}

function nodeRow(node: NodeStatus, status: ClusterStatus, look: Look): Row {
  const leads = node.name === status.leader;
  const mark = nodeMark(node, leads);
  const since = epochMs(node.since);
  const lag = (bytes: number | null): string => (leads ? "-" : bytes === null ? "?" : bytesText(bytes));
  const priority = node.tags["failover_priority"];
  const stateTone: Tone | null = markTone(mark) ?? (working.has(node.state) ? "warn" : null);
  return {
    mark,
    cells: [
      node.name,
      hostText(node, status),
      node.role,
      stateText(node, look.nowMs),
      node.timeline === null ? "?" : String(node.timeline),
      lag(node.lag_bytes),
      lag(node.replay_lag_bytes),
      node.upstream ?? "-",
      node.location ?? "",
      priority === undefined ? "" : String(priority),
      node.pending_restart ? "pending" : "",
      tagsText(node),
      since === null ? "-" : ageText(look.nowMs - since),
    ],
    ...(stateTone === null ? {} : { tones: { 3: stateTone } }),
  };
}

function nodeMark(node: NodeStatus, leads: boolean): Mark {
  if (node.unexpected_primary) return "!";
  if (leads) return "*";
  if (node.state === "unknown") return "?";
  return node.problem !== null || node.state === "failed" || node.state === "crashed" ? "!" : " ";
}

/** The host, with the port where it is needed to tell nodes apart or to connect. */
function hostText(node: NodeStatus, status: ClusterStatus): string {
  const shared = status.nodes.filter((other) => other.host === node.host).length > 1;
  const host = node.host.includes(":") ? `[${node.host}]` : node.host;
  return shared || node.port !== 5432 ? `${host}:${node.port}` : host;
}

/** The state in words: what a program of ours is doing, how far it is, and how long it may still take. */
export function stateText(node: NodeStatus, nowMs: number): string {
  if (node.unexpected_primary) return `${node.state}, no lease`;
  if (node.operation === null) return working.has(node.state) ? `~ ${node.state}` : node.state;
  const { doneBytes, totalBytes, startedAt, step, kind } = node.operation;
  const parts = [working.has(node.state) ? node.state : step === "" ? kind : step];
  if (doneBytes !== null && totalBytes !== null && totalBytes > 0) {
    parts[0] = `${parts[0] ?? ""} ${Math.min(100, Math.floor((doneBytes / totalBytes) * 100))} %`;
    const startedMs = epochMs(startedAt);
    const elapsed = startedMs === null ? 0 : nowMs - startedMs;
    if (elapsed >= 1000 && doneBytes > 0) {
      parts.push(`${bytesText((doneBytes / elapsed) * 1000)}/s`);
      const left = ((totalBytes - doneBytes) / doneBytes) * elapsed;
      if (left > 0) parts.push(ageText(left));
    }
  }
  return `~ ${parts.join(", ")}`;
}

function tagsText(node: NodeStatus): string {
  const tags = Object.entries(node.tags)
    .filter(([name]) => name !== "failover_priority")
    .map(([name, value]) => (value === true ? name : `${name}=${String(value)}`));
  return [...(node.sync ? ["sync"] : []), ...tags].join(" ");
}

/** The attention lines; one that only repeats a state that passes by itself is marked as work. */
function attention(status: ClusterStatus): Note[] {
  const passing = new Set(
    status.nodes.filter((node) => working.has(node.state)).map((node) => `${node.name} is ${node.state}`),
  );
  return status.attention.map((text) => ({ mark: passing.has(text) ? "~" : "!", text }));
}

function noteLines(status: ClusterStatus, look: Look): string[] {
  // What is only work in progress stands in the table already.
  const notes: Note[] = attention(status)
    .filter((note) => note.mark !== "~")
    .flatMap((note) => [note, ...whatToDo(note.text, status)]);
  for (const node of status.nodes) {
    if (!node.pending_restart) continue;
    const parameters = node.pending_restart_parameters.join(", ");
    const what = parameters === "" ? "changed parameters" : parameters;
    notes.push({
      mark: "!",
      text: `${node.name}: ${what} wait${parameters.includes(",") || parameters === "" ? "" : "s"} for a restart (pgherd restart ${node.name})`,
    });
  }
  if (status.scheduled_switchover !== null) {
    const { at, from, to } = status.scheduled_switchover;
    const names = `${from ?? status.leader ?? "the leader"} -> ${to ?? "the best candidate"}`;
    notes.push({
      mark: " ",
      text: `switchover ${names} at ${dateTimeText(at, look.zone)} (pgherd switchover --cancel)`,
    });
  }
  if (status.paused)
    notes.push({ mark: "!", text: "paused: nothing is promoted or restarted (pgherd resume)" });
  return notes.flatMap((note) => markedLines(note.mark, note.text, look));
}

/** What to do about a node's problem, under the line that tells of it. */
function whatToDo(line: string, status: ClusterStatus): Note[] {
  const node = status.nodes.find(
    ({ name, problem }) => problem !== null && problemLine(name, problem) === line,
  );
  const hint = node?.problem?.hint ?? null;
  return hint === null ? [] : [{ mark: " ", text: `next: ${hint}` }];
}

/** A line with its mark, its continuation indented under the text. */
export function markedLines(mark: Mark, text: string, look: Look): string[] {
  const tone = markTone(mark);
  const painted = tone === null ? mark : look.paint(tone, mark);
  return wrapTo(printable(text), look.width - 2).map((line, index) =>
    index === 0 ? `${painted} ${line}` : `  ${line}`,
  );
}
