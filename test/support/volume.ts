import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { waitFor } from "./process.ts";

/** A small file system of its own (tmpfs), seen only by what is started in it. */
export interface TestVolume {
  /** Where it is mounted; empty for everybody outside. */
  readonly path: string;
  /** Put before a command, it runs it with the volume mounted. */
  readonly within: readonly string[];
  /** Runs a shell command in the volume, with the right to mount. @throws Error with its output when it fails */
  run(command: string): Promise<string>;
}

/**
 * Mounts nothing yet: the first command started `within` does. A user and a mount namespace need no rights of root; where the
 * machine forbids them the command fails and says so, and with it the test.
 */
export function testVolume(dir: string, megabytes: number): TestVolume {
  const path = join(dir, "volume");
  const orders = join(dir, "orders");
  mkdirSync(path, { recursive: true, mode: 0o700 });
  execFileSync("mkfifo", [orders]);
  const script = `
    mount -t tmpfs -o size=${megabytes}m,mode=700 tmpfs "${path}" || exit 97
    ( while read -r id line < "${orders}"; do
        (eval "$line") > "${dir}/$id.out" 2>&1
        echo $? > "${dir}/$id.code.new"
        mv "${dir}/$id.code.new" "${dir}/$id.code"
      done ) &
    exec setpriv --ambient-caps=-all --inh-caps=-all "$@"`;
  let next = 0;
  return {
    path,
    within: [
      "unshare",
      "--map-current-user",
      "--mount",
      "--keep-caps",
      "sh",
      "-c",
      script,
      `pgherd-volume ${dir}/`,
    ],
    run: async (command) => {
      const id = `order-${(next += 1)}`;
      const code = join(dir, `${id}.code`);
      // Nobody reads where the volume is gone: hence the time limit.
      execFileSync("timeout", [
        "5",
        "sh",
        "-c",
        `printf '%s\\n' "$1" > "$2"`,
        "order",
        `${id} ${command}`,
        orders,
      ]);
      await waitFor(() => existsSync(code), { timeoutMs: 30_000, what: `${command} ends`, everyMs: 10 });
      const output = readFileSync(join(dir, `${id}.out`), "utf8");
      const ended = readFileSync(code, "utf8").trim();
      rmSync(code);
      if (ended !== "0") throw new Error(`${command} ended with ${ended}: ${output}`);
      return output;
    },
  };
}
