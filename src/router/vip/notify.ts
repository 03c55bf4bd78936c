import type { VipSettings } from "../../config/router-config.ts";
import { toolProblem, type RunTool } from "../host/tool.ts";

export type VipOccasion = "gained" | "lost" | "fault";

interface NotifyPorts {
  readonly tool: RunTool;
  readonly router: string;
  readonly cluster: string;
  readonly log: (event: string, fields: Readonly<Record<string, unknown>>) => void;
}

/** More than this never waits for one address: what is dropped is logged. */
const mostWaiting = 20;

/** Runs the operator's commands when an address is gained, lost or in trouble: one after the other, never in the way of the address. */
export class VipNotifier {
  readonly #settings: VipSettings;
  readonly #ports: NotifyPorts;
  #last: Promise<void> = Promise.resolve();
  #waiting = 0;

  constructor(settings: VipSettings, ports: NotifyPorts) {
    this.#settings = settings;
    this.#ports = ports;
  }

  /** Queues the command of this occasion, if there is one; the message is for people. */
  tell(occasion: VipOccasion, message: string): void {
    const chosen = this.#settings.notify[occasion];
    const [program, ...args] = chosen?.command ?? [];
    if (chosen === null || program === undefined) return;
    if (this.#waiting >= mostWaiting) {
      this.#ports.log("vip.notify_dropped", { vip: this.#settings.name, occasion });
      return;
    }
    this.#waiting += 1;
    this.#last = this.#last.then(async () => {
      await this.#run(occasion, program, args, chosen.timeoutMs, message);
      this.#waiting -= 1;
    });
  }

  /** Until the commands that wait now have run. */
  idle(): Promise<void> {
    return this.#last;
  }

  async #run(
    occasion: VipOccasion,
    program: string,
    args: readonly string[],
    timeoutMs: number,
    message: string,
  ): Promise<void> {
    const { tool, log, router, cluster } = this.#ports;
    const { name, address, interface: device } = this.#settings;
    const failed = (reason: string): void =>
      log("vip.notify_failed", { vip: name, occasion, message: reason });
    try {
      const result = await tool(program, args, {
        timeoutMs,
        env: {
          PGHERD_CLUSTER: cluster,
          PGHERD_ROUTER: router,
          PGHERD_EVENT: `vip_${occasion}`,
          PGHERD_VIP: name,
          PGHERD_VIP_ADDRESS: address,
          PGHERD_VIP_INTERFACE: device,
          PGHERD_MESSAGE: message,
        },
      });
      if (result.code !== 0) failed(toolProblem(program, result));
    } catch (thrown) {
      failed(thrown instanceof Error ? thrown.message : String(thrown));
    }
  }
}
