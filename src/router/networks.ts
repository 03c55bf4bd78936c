import { BlockList, isIPv6 } from "node:net";

/** Whether an address lies in a network. */
export type NetworkMatcher = (address: string) => boolean;

/**
 * @param networks addresses with or without a prefix length, or `all`; `0.0.0.0/0` means IPv4 alone, `::/0` IPv6 alone
 * @throws {RangeError | Error} one of them is neither
 */
export function networkMatcher(networks: readonly string[]): NetworkMatcher {
  if (networks.includes("all")) return () => true;
  // One list for each family: a list of both takes an IPv4 address for one within ::/0.
  const lists = { ipv4: new BlockList(), ipv6: new BlockList() };
  for (const network of networks) {
    const [address = "", prefix] = network.split("/");
    const family = familyOf(address);
    if (prefix === undefined) lists[family].addAddress(address, family);
    else lists[family].addSubnet(address, Number(prefix), family);
  }
  return (address) => {
    // A link-local address comes with the name of its interface, which no network has.
    const [plain = ""] = address.split("%");
    return lists[familyOf(plain)].check(plain, familyOf(plain));
  };
}

function familyOf(address: string): "ipv4" | "ipv6" {
  return isIPv6(address) ? "ipv6" : "ipv4";
}
