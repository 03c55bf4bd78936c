import { z } from "zod";
import { absolutePath, durationOrOff, flag, host, port, size, wholeNumber } from "./fields.ts";
import { network } from "./router-fields.ts";

/** Where something of a router listens. */
export const listen = z
  .union([z.literal("*"), host({ description: "" })], {
    error: (issue) => (issue.input === undefined ? undefined : "expected `*` or one address"),
  })
  .meta({ description: "Address to listen on; `*` = all, IPv4 and IPv6." });

/** TLS towards clients. */
export const clientTls = z
  .strictObject({
    mode: z
      .enum(["disable", "allow", "require"])
      .meta({ description: "allow: clients choose. require: clients without TLS are refused." })
      .default("allow"),
    cert_file: absolutePath({
      description: "The certificate with its chain, PEM; needs key_file.",
      "x-default": "one of its own making, in `state_dir`",
    }).optional(),
    key_file: absolutePath({ description: "Its private key, PEM." }).optional(),
    client_ca_file: absolutePath({
      description: "Client certificates are asked for and verified against this authority, PEM.",
      "x-default": "client certificates are not asked for",
    }).optional(),
  })
  .superRefine((value, context) => {
    if ((value.cert_file === undefined) !== (value.key_file === undefined))
      context.addIssue({ code: "custom", message: "cert_file and key_file belong together" });
  });

/** One address applications connect to. */
export const listener = z.strictObject({
  target: z
    .enum(["primary", "standby", "any"])
    .meta({
      description: "Where its clients go: to the primary, to a standby, or to any of the nodes.",
      "x-default": "the listener's name, where that is one of them",
    })
    .optional(),
  path: z
    .enum(["session", "stream", "kernel"])
    .meta({
      description:
        "session: understands the protocol and carries sessions through a move. stream: passes bytes, sessions end with a move. kernel: the kernel passes them (nftables).",
    })
    .default("session"),
  listen: listen.default("*"),
  port: port({
    description: "Port to listen on.",
    "x-default": "`5000` for `primary`, `5001` for `standby`",
  }).optional(),
  clients: wholeNumber(
    { description: "The most clients at once.", "x-default": "`limits.clients`" },
    1,
    1_000_000,
  ).optional(),
  lag_limit: size(
    {
      description: "A standby further behind gets no new clients until it is back below half of this.",
      "x-default": "no limit",
    },
    { min: "8kB", max: "100TB" },
  ).optional(),
  fallback: z
    .enum(["primary", "none"])
    .meta({ description: "Where clients go while no standby is fit; none: they wait, then are refused." })
    .default("primary"),
  same_location_first: flag({
    description: "Standbys in the router's own location come before the others.",
  }).default(true),
  proxy_protocol: flag({
    description: "Every connection begins with a PROXY header (version 1 or 2); needs proxy_from.",
  }).default(false),
  proxy_from: z
    .array(network({ description: "A network." }))
    .max(100)
    .meta({ description: "Networks whose PROXY header is believed; others are refused." })
    .default([]),
  tls: clientTls
    .meta({
      description:
        "TLS towards the clients of this listener. Path stream: only mode; with allow and require it is between client and PostgreSQL, with disable the router declines it.",
      "x-default": "the router's `tls`",
    })
    .optional(),
  idle_timeout: durationOrOff(
    { description: "Clients idle for longer are disconnected.", "x-default": "`timeouts.idle`" },
    { min: "1s", max: "365d" },
  ).optional(),
  kernel: z
    .strictObject({
      fallback: z
        .enum(["stream", "none"])
        .meta({
          description: "Where the kernel cannot do it: pass the bytes in the router, or do not start.",
        })
        .default("none"),
      masquerade: flag({
        description: "PostgreSQL sees this host's address; false needs a way back through this host.",
      }).default(true),
      sysctls: z
        .enum(["check", "set"])
        .meta({ description: "check: what is missing (ip_forward, route_localnet) is said. set: it is set." })
        .default("check"),
    })
    .meta({ description: "Of path `kernel`." })
    .prefault({}),
});
