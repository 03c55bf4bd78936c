import type { Brand } from "./brand.ts";

/** The name of a node, unique in its cluster: letters, digits, `_`, `-`, `.`; at most 63 characters. */
export type NodeName = Brand<string, "NodeName">;
/** PostgreSQL's system identifier, a 64-bit number in decimal text; equal in all copies of one database cluster. */
export type SystemIdentifier = Brand<string, "SystemIdentifier">;
/** The number of a line of WAL history; grows with every promotion (I4). */
export type Timeline = Brand<number, "Timeline">;
/** The fencing token: grows by one with each change of holder or claim and is never reused (safety: Words). */
export type FencingToken = Brand<number, "FencingToken">;

/** A node with the incarnation of its data, `node/incarnation`: what a durability record counts (safety: Words). */
export type Member = Brand<string, "Member">;

const nameForm = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/;

/** A node name, or undefined when the text cannot be one. */
export function parseNodeName(text: string): NodeName | undefined {
  return nameForm.test(text) ? (text as NodeName) : undefined;
}

/** A system identifier, or undefined when the text is not a decimal number. */
export function parseSystemIdentifier(text: string): SystemIdentifier | undefined {
  return /^[0-9]{1,20}$/.test(text) ? (text as SystemIdentifier) : undefined;
}

/** A timeline number, or undefined when it is not between 1 and 2^32 - 1. */
export function parseTimeline(value: number): Timeline | undefined {
  return Number.isInteger(value) && value >= 1 && value <= 0xffffffff ? (value as Timeline) : undefined;
}

/** A fencing token, or undefined when it is not a non-negative whole number. */
export function parseToken(value: number): FencingToken | undefined {
  return Number.isSafeInteger(value) && value >= 0 ? (value as FencingToken) : undefined;
}

/** How many characters of an incarnation tell members apart: enough beside the node's name, and few for PostgreSQL. */
const incarnationLength = 8;

/** The member that a node is with this incarnation of its data. */
export function memberOf(node: NodeName, incarnation: string): Member {
  return `${node}/${incarnation.slice(0, incarnationLength)}` as Member;
}

/** The node of a member. */
export function nodeOfMember(member: Member): NodeName {
  return member.slice(0, member.indexOf("/")) as NodeName;
}

/** A member, or undefined when the text cannot be one. */
export function parseMember(text: string): Member | undefined {
  const [node, incarnation, ...more] = text.split("/");
  const valid = node !== undefined && parseNodeName(node) !== undefined && incarnation !== undefined;
  return valid && more.length === 0 && /^[A-Za-z0-9-]{1,63}$/.test(incarnation)
    ? (text as Member)
    : undefined;
}

/** PostgreSQL cuts application names off here. */
const applicationNameLength = 63;

/**
 * The application_name under which a member connects once its lineage is proven for this token (S5): the only names that
 * synchronous_standby_names ever holds. A long node name is cut and told apart by the incarnation.
 */
export function replicationName(member: Member, token: FencingToken): string {
  const rest = `${member.slice(member.indexOf("/"))}/${token}`;
  return nodeOfMember(member).slice(0, applicationNameLength - rest.length) + rest;
}

/** The token after this one (F4). */
export function nextToken(token: FencingToken): FencingToken {
  return (token + 1) as FencingToken;
}

/** The timeline after this one. */
export function nextTimeline(timeline: Timeline): Timeline {
  return (timeline + 1) as Timeline;
}

const plainSlotName = /^[a-z0-9_]{1,63}$/;

/**
 * The name of the physical replication slot a member uses on its upstream: the node name in the characters PostgreSQL
 * allows. Two different names may not collide, so what was replaced is told apart by its code point, as Patroni does.
 */
export function slotNameOf(node: NodeName): string {
  if (plainSlotName.test(node)) return node;
  return Array.from(node.toLowerCase(), (char) => {
    if (/[a-z0-9_]/.test(char)) return char;
    if (char === "-" || char === ".") return "_";
    return `u${(char.codePointAt(0) ?? 0).toString(16).padStart(4, "0")}`;
  })
    .join("")
    .slice(0, 63);
}
