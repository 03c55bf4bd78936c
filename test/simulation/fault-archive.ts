import { frozen, isolate, nothing, otherNodes, powerOff, way, type Fault } from "./fault-tools.ts";
import { storePlace } from "./store.ts";

/** What goes wrong with the backup server, whose WAL receiver is a member; nothing where there is none. */
export const archiveFaults = {
  "kill archive": ({ archive }) => {
    archive?.agent?.kill();
    return nothing;
  },
  "freeze archive": ({ archive }) => frozen(archive?.agent ?? null),
  "archive loses store": (world, _node, plan) =>
    world.archive === null ? nothing : isolate(world, world.archive, [storePlace], way(plan.detail)),
  "archive loses nodes": (world, _node, plan) =>
    world.archive === null ? nothing : isolate(world, world.archive, otherNodes(world), way(plan.detail)),
  "archive loses leader": (world, node, plan) =>
    world.archive === null ? nothing : isolate(world, world.archive, [node.name], way(plan.detail)),
  "archive loses power": (world, _node, plan) =>
    world.archive === null ? nothing : powerOff(world, world.archive, plan, false),
  "archive loses disk": (world, _node, plan) =>
    world.archive === null ? nothing : powerOff(world, world.archive, plan, true),
  "archive disk stalls": ({ archive }, _node, plan) => {
    archive?.postgres.host.disk.stall(plan.ms);
    return nothing;
  },
} satisfies Record<string, Fault>;
