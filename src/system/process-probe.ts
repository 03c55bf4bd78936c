import { monitorEventLoopDelay } from "node:perf_hooks";

/** What this process uses. */
export interface ProcessFigures {
  readonly residentBytes: number;
  readonly heapBytes: number;
  readonly cpuSeconds: number;
  /** Of the event loop since the last look, in seconds. */
  readonly delayMedian: number;
  readonly delay99: number;
  readonly delayMax: number;
}

export interface ProcessProbe {
  look(): ProcessFigures;
  close(): void;
}

/** How often the event loop's delay is sampled: rarely enough to cost an idle agent nothing to speak of. */
const resolutionMs = 100;

/** Begins to watch this process. */
export function watchProcess(): ProcessProbe {
  const histogram = monitorEventLoopDelay({ resolution: resolutionMs });
  histogram.enable();
  // The sampling interval is part of every sample.
  const seconds = (nanoseconds: number): number =>
    Number.isFinite(nanoseconds) ? Math.max(0, nanoseconds / 1e9 - resolutionMs / 1000) : 0;
  return {
    look: () => {
      const { rss, heapUsed } = process.memoryUsage();
      const cpu = process.cpuUsage();
      const figures = {
        residentBytes: rss,
        heapBytes: heapUsed,
        cpuSeconds: (cpu.user + cpu.system) / 1e6,
        delayMedian: seconds(histogram.percentile(50)),
        delay99: seconds(histogram.percentile(99)),
        delayMax: seconds(histogram.max),
      };
      histogram.reset();
      return figures;
    },
    close: () => {
      histogram.disable();
    },
  };
}
