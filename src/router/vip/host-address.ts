import type { VipSettings } from "../../config/router-config.ts";
import type { AddressPorts, VipAddress } from "./address.ts";
import { hookAddress } from "./hook-address.ts";
import { ipAddress } from "./ip-address.ts";

/** The address as this host moves it: by the operator's commands where there are any, else by `ip`. */
export function hostAddress(settings: VipSettings, ports: AddressPorts): VipAddress {
  return settings.commands === null
    ? ipAddress(settings, ports)
    : hookAddress(settings, settings.commands, ports);
}
