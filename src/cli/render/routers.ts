import type { RoutersReport } from "../../api/client.ts";
import type { MovePlan } from "../../agent/service.ts";
import type { RouterLine } from "../../cluster/status.ts";
import type { SessionView } from "../../router/sessions.ts";
import type { MovedReport } from "../move-watch.ts";
import type { Look, Mark } from "./look.ts";
import { ageText, countText, dateTimeText, spanText } from "./quantity.ts";
import { tableLines, type Row } from "./table.ts";
import { wrapTo } from "./width.ts";

/** The routers in the status: one line each; nothing where there is none. Pure. */
export function routerTable(routers: readonly RouterLine[], look: Look): string[] {
  if (routers.length === 0) return [];
  const rows = routers.map((router): Row => {
    const mark: Mark = router.state === "unknown" ? "?" : router.state === "moving" ? "~" : " ";
    return {
      mark,
      cells: [
        router.name,
        router.host,
        router.state === "moving" ? "~ moving" : router.state,
        listenersText(router.listeners),
        router.state === "unknown" ? "?" : String(router.sessions),
        router.pinned === 0 ? "" : String(router.pinned),
        router.detached.join(", "),
      ],
    };
  });
  return [
    "",
    ...tableLines(
      [
        { title: "router", least: 6 },
        { title: "host", least: 10 },
        { title: "state", least: 8 },
        { title: "listens", least: 10 },
        { title: "sessions", align: "right" },
        { title: "pinned", align: "right", optional: true },
        { title: "detached", optional: true },
      ],
      rows,
      look,
    ),
  ];
}

function listenersText(listeners: readonly { readonly name: string; readonly port: number }[]): string {
  return listeners.map(({ name, port }) => `${name} :${port}`).join(", ");
}

/** What `pgherd router status` shows. Pure. */
export function routerLines(report: RoutersReport, look: Look): string[] {
  if (report.routers.length === 0)
    return ["The cluster has no router. Start one: pgherd router --config FILE"];
  const lines = tableLines(
    [
      { title: "router", least: 6 },
      { title: "host", least: 10 },
      { title: "version" },
      { title: "listens", least: 10 },
      { title: "sessions", align: "right" },
      { title: "writers", align: "right" },
      { title: "pinned", align: "right" },
      { title: "console", dropOrder: 1 },
      { title: "heard", dropOrder: 2 },
    ],
    report.routers.map((router): Row => {
      const isAway = router.heard_s === null || router.heard_s > awayS;
      return {
        mark: isAway ? "?" : router.gate === null ? " " : "~",
        cells: [
          router.name,
          router.host,
          router.version,
          listenersText(router.listeners),
          String(router.sessions),
          String(router.on_primary),
          String(router.pinned.reduce((sum, { count }) => sum + count, 0)),
          router.admin === null ? "-" : `${router.admin.address}:${router.admin.port}`,
          router.heard_s === null ? "never" : `${ageText(router.heard_s * 1000)} ago`,
        ],
      };
    }),
    look,
  );
  for (const router of report.routers)
    if (router.pinned.length > 0)
      lines.push(...indented(`${router.name} would cut in a switchover: ${pinnedText(router.pinned)}`, look));
  const { detached, draining, paused_until: until } = report.orders;
  for (const node of detached)
    lines.push(
      `! ${node} gets no new clients${draining.includes(node) ? ", and its sessions leave" : ""} (pgherd router attach ${node})`,
    );
  if (until !== null && Date.parse(until) > look.nowMs)
    lines.push(`! paused until ${dateTimeText(until, look.zone)} (pgherd router resume)`);
  return lines;
}

const awayS = 10;

/** `2 temporary tables (app "reports", 10.0.0.40), 1 open COPY (...)`. */
function pinnedText(pinned: NonNullable<MovePlan["sessions"]>["pinned"]): string {
  return pinned
    .map(({ reason, count, examples }) => {
      const [first] = examples;
      const who =
        first === undefined
          ? ""
          : ` (${first.application === "" ? first.user : `app "${first.application}"`}, ${first.address}${count > 1 ? ", ..." : ""})`;
      return `${count} with ${reason}${who}`;
    })
    .join(", ");
}

/** What becomes of the sessions in routers; nothing where there are none. Pure. */
export function planSessionLines(plan: MovePlan, look: Look): string[] {
  const { sessions } = plan;
  if (sessions === null) return [];
  const cut = sessions.pinned.reduce((sum, { count }) => sum + count, 0);
  const carried = `${countText(sessions.carried, "session")} ${sessions.carried === 1 ? "is" : "are"} carried`;
  const head = `${carried} (${sessions.routers.join(", ")}), ${cut === 0 ? "none is cut." : `${cut} would be cut:`}`;
  return [head, ...(cut === 0 ? [] : indented(pinnedText(sessions.pinned), look))];
}

/** `3 sessions will be cut (see --dry-run).`; empty = none. */
export function cutWarning(plan: MovePlan): string {
  const cut = (plan.sessions?.pinned ?? []).reduce((sum, { count }) => sum + count, 0);
  return cut === 0 ? "" : ` ${countText(cut, "session")} will be cut (see --dry-run).`;
}

/** How the move was for the sessions: `Writes waited 0.57 s. No client saw an error, 3 were cut as announced.` Pure. */
export function movedText(moved: MovedReport): string {
  const { cut, announced, silent } = moved;
  const waited = `Writes waited ${spanText(moved.waited_ms)}.`;
  const fate =
    cut === 0
      ? `No client saw an error: ${countText(moved.carried, "session")} went on.`
      : cut <= announced
        ? `No client saw an error, ${cut} ${cut === 1 ? "was" : "were"} cut as announced.`
        : `${countText(cut, "session")} ${cut === 1 ? "was" : "were"} cut, ${announced} of them announced; ${moved.carried} went on.`;
  const missing = silent === 0 ? "" : ` ${countText(silent, "router")} told nothing.`;
  return `${waited} ${fate}${missing}`;
}

/** The sessions of routers, one a line. Pure. */
export function sessionLines(
  sessions: readonly (SessionView & { readonly router: string })[],
  look: Look,
): string[] {
  if (sessions.length === 0) return ["No client is connected."];
  return tableLines(
    [
      { title: "router", least: 6 },
      { title: "id", align: "right" },
      { title: "listener", dropOrder: 3 },
      { title: "user", least: 6 },
      { title: "database", least: 6 },
      { title: "application", least: 6 },
      { title: "client", least: 10 },
      { title: "state" },
      { title: "node" },
      { title: "for", align: "right" },
      { title: "pinned by", optional: true },
      { title: "carried", align: "right", dropOrder: 1 },
    ],
    sessions.map((one): Row => ({
      mark: one.pinned.length > 0 ? "!" : " ",
      cells: [
        one.router,
        String(one.id),
        one.listener,
        one.user,
        one.database,
        one.application,
        `${one.address}:${one.port}`,
        one.state,
        one.node ?? "-",
        ageText(one.stateMs),
        one.pinned.join(", "),
        String(one.carried),
      ],
    })),
    look,
  );
}

function indented(text: string, look: Look): string[] {
  return wrapTo(text, look.width - 2).map((line) => `  ${line}`);
}
