import type { RouterSettings } from "../../config/router-config.ts";
import { toFault } from "../../values/fault.ts";
import { startKernelPath, type KernelPath, type KernelPathOptions } from "./kernel-path.ts";

export interface KernelPathsOptions extends Omit<KernelPathOptions, "listener" | "router"> {
  readonly settings: RouterSettings;
}

export interface KernelPaths {
  readonly paths: readonly KernelPath[];
  /** With the listeners that the kernel cannot serve and that may fall back, as listeners of path `stream`. */
  readonly settings: RouterSettings;
  /** Takes new access rules into use. */
  reload(): void;
  /** Leaves the rules to another process, which states the same. */
  leave(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Starts every listener of path `kernel`.
 * @throws Fault of the first that cannot be served and has no fallback; nothing is left behind then
 */
export async function startKernelPaths(options: KernelPathsOptions): Promise<KernelPaths> {
  const { settings, log } = options;
  const paths: KernelPath[] = [];
  const close = async (): Promise<void> => {
    await Promise.all(paths.map((path) => path.close()));
  };
  const listeners: RouterSettings["listeners"][number][] = [];
  for (const listener of settings.listeners) {
    listeners.push(listener);
    if (listener.path !== "kernel") continue;
    try {
      paths.push(await startKernelPath({ ...options, listener, router: settings.router }));
    } catch (thrown) {
      if (listener.kernel.fallback === "none") {
        await close();
        throw thrown;
      }
      log("warn", "kernel.fallback", {
        listener: listener.name,
        path: "stream",
        ...toFault(thrown).report(),
      });
      listeners[listeners.length - 1] = { ...listener, path: "stream" };
    }
  }
  const reload = (): void => {
    for (const path of paths) path.reload();
  };
  const leave = async (): Promise<void> => {
    await Promise.all(paths.map((path) => path.leave()));
  };
  return { paths, settings: { ...settings, listeners }, reload, leave, close };
}
