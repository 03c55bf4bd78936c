import { BlockList, isIPv6 } from "node:net";

/** Whether an address lies in a network. */
export type NetworkMatcher = (address: string) => boolean;

/**
 * @param networks addresses with or without a prefix length, or `all`
 * @throws {RangeError | Error} one of them is neither
 */
export function networkMatcher(networks: readonly string[]): NetworkMatcher {
  if (networks.includes("all")) return () => true;
  const list = new BlockList();
  for (const network of networks) {
    const [address = "", prefix] = network.split("/");
    const family = isIPv6(address) ? "ipv6" : "ipv4";
    if (prefix === undefined) list.addAddress(address, family);
    else list.addSubnet(address, Number(prefix), family);
  }
  return (address) => list.check(address, isIPv6(address) ? "ipv6" : "ipv4");
}
