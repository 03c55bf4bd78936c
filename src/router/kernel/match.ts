import { isIP, isIPv4 } from "node:net";

/** Destination addresses of a listener, for each family: every local one, some, or none. */
export interface ListenMatch {
  readonly four: "local" | readonly string[];
  readonly six: "local" | readonly string[];
}

/** What a listener's `listen` means. @param resolved the addresses of a host name; ignored for addresses */
export function listenMatch(listen: string, resolved: readonly string[]): ListenMatch {
  if (listen === "*" || listen === "::") return { four: "local", six: "local" };
  if (listen === "0.0.0.0") return { four: "local", six: [] };
  const addresses = isIP(listen) === 0 ? resolved : [listen];
  return {
    four: addresses.filter((address) => isIPv4(address)),
    six: addresses.filter((address) => isIP(address) === 6),
  };
}

/** Whether an address is one of the host itself. */
export function isLoopback(address: string): boolean {
  return address === "::1" || /^127\./.test(address);
}
