import type { Log } from "../agent/context.ts";
import type { AgentService } from "../agent/service.ts";
import type { Clock } from "../system/clock.ts";
import type { EventCounts } from "./metrics/event-counts.ts";
import type { ScheduledRestart } from "./patroni/scheduled-restart.ts";
import type { ProcessProbe } from "../system/process-probe.ts";
import type { StreamHub } from "./stream.ts";

/** What every handler may use. */
export interface ApiContext {
  readonly service: AgentService;
  readonly clock: Clock;
  readonly log: Log;
  readonly stream: StreamHub;
  readonly events: EventCounts;
  readonly process: ProcessProbe;
  readonly restart: ScheduledRestart;
}
