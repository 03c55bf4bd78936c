import { readFileSync, writeFileSync } from "node:fs";

/** Switches of the kernel that this path needs, by their names below /proc/sys. */
const sysctls = {
  forward4: "net/ipv4/ip_forward",
  forward6: "net/ipv6/conf/all/forwarding",
  /** Lets 127.0.0.0/8 be routed after its destination was changed. */
  loopback: "net/ipv4/conf/all/route_localnet",
} as const;
export type SysctlName = keyof typeof sysctls;

/** What `sysctl` calls it. */
export function sysctlWord(name: SysctlName): string {
  return sysctls[name].replaceAll("/", ".");
}

/** The switches of this host's network; what was set is put back at the end. */
export class Sysctls {
  readonly #set = new Set<SysctlName>();
  readonly #root: string;

  constructor(root = "/proc/sys/") {
    this.#root = root;
  }

  /** Whether it is on; a family that the kernel has not got is off. */
  isOn(name: SysctlName): boolean {
    try {
      return readFileSync(this.#root + sysctls[name], "latin1").trim() !== "0";
    } catch {
      return false;
    }
  }

  /** Switches it on. @returns whether it is on now */
  turnOn(name: SysctlName): boolean {
    if (this.isOn(name)) return true;
    try {
      writeFileSync(this.#root + sysctls[name], "1");
    } catch {
      return false;
    }
    this.#set.add(name);
    return this.isOn(name);
  }

  /** Puts back what this object has switched on. */
  restore(): void {
    for (const name of this.#set)
      try {
        writeFileSync(this.#root + sysctls[name], "0");
      } catch {
        // taken away with its network
      }
    this.#set.clear();
  }
}
