import type { RestoreResults, RestoreStep, RestoreWork } from "../../agent/restore-port.ts";
import { faultCatalogue, type FaultReport } from "../../values/fault.ts";

/**
 * What an agent and its `pgherd restore-job` say to each other over the IPC channel the job was started with. The token comes
 * over it too: it stands in no argument and in no environment. The job ends when the channel closes.
 */
export type WorkOrder =
  | {
      readonly kind: "start";
      readonly server: {
        readonly url: string;
        readonly cluster: string;
        readonly token: string | null;
        readonly caFile: string | null;
        readonly keyFile: string | null;
      };
      readonly binDir: string;
      readonly work: RestoreWork;
    }
  | { readonly kind: "cancel" };

export type WorkReport =
  | { readonly kind: "ready" }
  | { readonly kind: "step"; readonly step: RestoreStep }
  | { readonly kind: "done"; readonly result: RestoreResults[RestoreWork["kind"]] }
  | { readonly kind: "failed"; readonly fault: FaultReport };

/** What came over the channel; null = nothing of this protocol. Its ends are of the same program: shapes are not checked again. */
export function parseWorkOrder(message: unknown): WorkOrder | null {
  const kind = kindOf(message);
  return kind === "start" || kind === "cancel" ? (message as WorkOrder) : null;
}

/** As parseWorkOrder. */
export function parseWorkReport(message: unknown): WorkReport | null {
  switch (kindOf(message)) {
    case "ready":
    case "step":
    case "done":
      return message as WorkReport;
    case "failed":
      return (message as { fault?: { code?: string } }).fault?.code !== undefined &&
        (message as { fault: { code: string } }).fault.code in faultCatalogue
        ? (message as WorkReport)
        : null;
    default:
      return null;
  }
}

function kindOf(message: unknown): unknown {
  return typeof message === "object" && message !== null && "kind" in message ? message.kind : null;
}
