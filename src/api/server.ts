import type { IncomingMessage, ServerResponse } from "node:http";
import type { Log } from "../agent/context.ts";
import type { AgentService } from "../agent/service.ts";
import type { Clock } from "../system/clock.ts";
import type { Timers } from "../system/timers.ts";
import { toFault } from "../values/fault.ts";
import type { ApiContext } from "./context.ts";
import type { ApiAuth } from "./credentials.ts";
import { dispatch } from "./dispatch.ts";
import { toApiRequest } from "./exchange.ts";
import { sendReply, startListener, type ApiTls, type RunningListener } from "./listener.ts";
import { EventCounts } from "./metrics/event-counts.ts";
import { watchProcess } from "../system/process-probe.ts";
import { ScheduledRestart } from "./patroni/scheduled-restart.ts";
import { StreamHub } from "./stream.ts";

export interface ApiOptions {
  readonly service: AgentService;
  /** Address to listen on, such as `0.0.0.0`. */
  readonly listen: string;
  /** 0 = a free one. */
  readonly port: number;
  readonly tls: ApiTls | null;
  readonly auth: ApiAuth;
  readonly log: Log;
  readonly clock: Clock;
  readonly timers: Timers;
}

export type RunningApi = RunningListener;

/** How long a request may take to arrive. */
const requestMs = 10_000;

/** Starts the API. @throws Fault PORT_OCCUPIED, CONFIG_UNREADABLE */
export async function startApi(options: ApiOptions): Promise<RunningApi> {
  const { service, clock, timers, log } = options;
  const context: ApiContext = {
    service,
    clock,
    log,
    stream: new StreamHub(service, timers),
    events: new EventCounts(service),
    process: watchProcess(),
    restart: new ScheduledRestart(service, clock, timers, log),
  };
  const closeContext = (): void => {
    context.stream.close();
    context.events.close();
    context.process.close();
    context.restart.cancel();
  };
  try {
    const { listen, port, tls } = options;
    const onRequest = (incoming: IncomingMessage, response: ServerResponse): void =>
      void answer(context, options, incoming, response);
    const listener = await startListener({ listen, port, tls, file: "node file", requestMs, onRequest });
    return {
      ...listener,
      close: () => {
        closeContext();
        return listener.close();
      },
    };
  } catch (thrown) {
    closeContext();
    throw thrown;
  }
}

async function answer(
  context: ApiContext,
  options: ApiOptions,
  incoming: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  try {
    const verifiesClients = (options.tls?.clientCaFile ?? null) !== null;
    sendReply(response, await dispatch(context, options.auth, toApiRequest(incoming, verifiesClients)));
  } catch (thrown) {
    context.log("error", "api.defect", { message: toFault(thrown).message });
    response.destroy();
  }
}
