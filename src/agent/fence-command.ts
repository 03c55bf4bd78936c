import { spawn } from "node:child_process";
import type { NodeName } from "../values/names.ts";
import { elapsedMs } from "../values/time.ts";
import type { AgentContext } from "./context.ts";

const outputBytes = 4096;

/**
 * Runs the operator's fence command before the lease of another that fell silent is taken over. Its result is recorded and decides nothing: the
 * lease has run out either way, and a command that hangs is ended at its limit.
 */
export async function runFenceCommand(context: AgentContext, former: NodeName): Promise<void> {
  const { options, journal, clock, timers } = context;
  if (options.fenceCommand === null) return;
  const { command, timeoutMs } = options.fenceCommand;
  const [program, ...rest] = command;
  if (program === undefined) return;
  const record = context.mirror.state?.nodes.get(former)?.value;
  const started = clock.now();
  const result = await new Promise<{ code: number | null; output: string; problem: string | null }>(
    (resolve) => {
      let output = "";
      const child = spawn(program, rest, {
        stdio: ["ignore", "pipe", "pipe"],
        env: {
          ...process.env,
          PGHERD_CLUSTER: options.cluster,
          PGHERD_NODE: options.node,
          PGHERD_FENCED_NODE: former,
          PGHERD_FENCED_HOST: record?.host ?? "",
          PGHERD_FENCED_PORT: String(record?.port ?? ""),
        },
      });
      const keep = (chunk: Buffer): void => {
        if (output.length < outputBytes)
          output += chunk.toString("utf8").slice(0, outputBytes - output.length);
      };
      child.stdout.on("data", keep);
      child.stderr.on("data", keep);
      const timer = timers.after(timeoutMs, () => child.kill("SIGKILL"));
      child.on("error", (error) => {
        timer.cancel();
        resolve({ code: null, output, problem: error.message });
      });
      child.on("close", (code, signal) => {
        timer.cancel();
        resolve({ code, output, problem: signal === null ? null : `ended by ${signal}` });
      });
    },
  );
  const ms = Math.round(elapsedMs(started, clock.now()));
  journal.event(
    "fence_command_ran",
    result.code === 0,
    result.problem ?? `exit code ${result.code ?? "none"}`,
    {
      fenced_node: former,
      exit_code: result.code,
      ms,
      output: result.output.trim(),
    },
  );
}
