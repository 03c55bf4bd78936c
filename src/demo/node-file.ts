import { join } from "node:path";
import { stringify } from "yaml";
import type { DemoFile, DemoNode } from "./demo-file.ts";

/** The node file of one node of the demo. */
export function nodeFile(demo: DemoFile, node: DemoNode): string {
  const content = {
    cluster: demo.cluster,
    node: node.name,
    address: "127.0.0.1",
    data_dir: node.data_dir,
    state_dir: node.state_dir,
    dcs: { etcd: demo.etcd.members.map((member) => new URL(member.endpoint).host) },
    postgresql: { port: node.port, listen: "127.0.0.1" },
    api: { port: Number(new URL(node.api).port), listen: "127.0.0.1" },
    backup: { restore_below: join(demo.dir, "restored") },
    ...(Object.keys(demo.settings).length === 0 ? {} : { bootstrap: { settings: demo.settings } }),
  };
  return `# Written by \`pgherd demo up\`; yours to change (restart the agent afterwards).\n${stringify(content)}`;
}

/** One line per server for libpq's password file. */
export function passfile(demo: DemoFile): string {
  const escape = (text: string): string => text.replace(/[\\:]/g, "\\$&");
  const { name, password } = demo.role;
  const { primary, standby, admin } = demo.router?.ports ?? {};
  const ports = [primary, standby, admin, ...demo.nodes.map((node) => node.port)].filter(
    (port) => port !== undefined,
  );
  return ports.map((port) => `127.0.0.1:${port}:*:${escape(name)}:${escape(password)}\n`).join("");
}
