import { z } from "zod";
import { absolutePath, text } from "./fields.ts";

/** Where an etcd member answers, taken apart. */
export interface Endpoint {
  /** null when the entry is `host:port` without a scheme. */
  readonly scheme: "http" | "https" | null;
  /** IPv6 in brackets. */
  readonly host: string;
  readonly port: number;
}

const endpointForm =
  /^(?:(https?):\/\/)?([A-Za-z0-9](?:[A-Za-z0-9_.-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])(?::(\d{1,5}))?\/?$/;

/** An endpoint, or undefined when the text is none. The default port is etcd's, 2379. */
function parseEndpoint(value: string): Endpoint | undefined {
  const match = endpointForm.exec(value);
  if (match?.[2] === undefined) return undefined;
  const port = Number(match[3] ?? "2379");
  if (port < 1 || port > 65_535) return undefined;
  return { scheme: match[1] === "http" || match[1] === "https" ? match[1] : null, host: match[2], port };
}

const endpoints = z
  .array(
    z.string().transform((value, context): Endpoint => {
      const endpoint = parseEndpoint(value);
      if (endpoint !== undefined) return endpoint;
      // The value is not repeated: somebody may have written a password into it.
      const message = value.includes("@")
        ? "credentials do not belong into an endpoint: use dcs.etcd.username and dcs.etcd.password_file"
        : "expected host:port or a URL such as https://10.0.0.11:2379";
      context.addIssue({ code: "custom", message });
      return z.NEVER;
    }),
  )
  .min(1)
  .max(16)
  .superRefine((list, context) => {
    const seen = new Set<string>();
    list.forEach(({ host, port }, index) => {
      const place = `${host.toLowerCase()}:${port}`;
      if (seen.has(place)) context.addIssue({ code: "custom", path: [index], message: "is named twice" });
      seen.add(place);
    });
  })
  .meta({ description: "The members of etcd: `host:port` or URLs. Name all of them." });

const tls = z
  .strictObject({
    ca_file: absolutePath({
      description: "The authority that signed the members' certificates, PEM.",
      "x-default": "the system's",
    }).optional(),
    cert_file: absolutePath({
      description: "This host's client certificate, PEM; needs key_file.",
    }).optional(),
    key_file: absolutePath({ description: "Its private key, PEM." }).optional(),
  })
  .superRefine((value, context) => {
    if ((value.cert_file === undefined) !== (value.key_file === undefined))
      context.addIssue({ code: "custom", message: "cert_file and key_file belong together" });
  })
  .meta({ description: "Connect with TLS." });

const etcd = z
  .strictObject({
    endpoints,
    tls: tls.optional(),
    username: text({ description: "etcd user; needs password_file." }).optional(),
    password_file: absolutePath({ description: "File that holds that user's password." }).optional(),
  })
  .superRefine((value, context) => {
    if ((value.username === undefined) !== (value.password_file === undefined))
      context.addIssue({ code: "custom", message: "username and password_file belong together" });
    value.endpoints.forEach(({ scheme }, index) => {
      if (scheme === "http" && value.tls !== undefined)
        context.addIssue({
          code: "custom",
          path: ["endpoints", index],
          message: "http:// would go without the TLS of dcs.etcd.tls; write https:// or host:port",
        });
    });
  });

/** etcd as the node file names it, always in its long form. */
export type EtcdFile = z.output<typeof etcd>;

/** The store, exactly one. Each kind of store is one optional key here. */
export const dcsSchema = z
  .strictObject({
    etcd: z
      .union([endpoints, etcd])
      .transform((value): EtcdFile => (Array.isArray(value) ? { endpoints: value } : value))
      .meta({
        description: "etcd 3.4 or later: a list of its members, or its members with TLS and user.",
        "x-default": "none; one store is needed",
      })
      .optional(),
  })
  .superRefine((value, context) => {
    if (value.etcd === undefined)
      context.addIssue({ code: "custom", message: "names no store: add dcs.etcd" });
  })
  .meta({ description: "The store where leadership is decided; exactly one." });
