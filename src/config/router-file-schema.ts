import { z } from "zod";
import { dcsSchema } from "./dcs-schema.ts";
import {
  absolutePath,
  command,
  duration,
  durationOrOff,
  flag,
  host,
  name,
  nodeName,
  port,
  text,
  wholeNumber,
} from "./fields.ts";
import { clientTls, listen, listener } from "./router-listener-schema.ts";
import { oneOrMany, parseNetwork } from "./router-fields.ts";

const programme = (description: string) =>
  z
    .strictObject({
      command: command({ description: "The program and its arguments." }),
      timeout: duration(
        { description: "After this time the program is killed." },
        { min: "100ms", max: "5min" },
      ).prefault("5s"),
    })
    .meta({ description });

const accessRule = z.strictObject({
  database: oneOrMany(z.string().min(1).max(63), {
    description:
      "Databases, or `all`; `replication` = replication connections, which `all` does not include.",
  }).prefault("all"),
  user: oneOrMany(z.string().min(1).max(63), { description: "Users, or `all`." }).prefault("all"),
  address: oneOrMany(
    z
      .string()
      .refine(
        (value) => value === "all" || parseNetwork(value) !== undefined,
        "expected a network such as 10.0.0.0/8 or fd00::/8, one address, or all",
      ),
    { description: "Networks the client may come from, or `all`." },
  ).prefault("all"),
  tls: z
    .enum(["any", "required"])
    .meta({ description: "required: the rule matches clients with TLS alone." })
    .default("any"),
  method: z
    .enum(["scram-sha-256", "md5", "trust", "cert", "reject"])
    .meta({
      description:
        "How the client proves who it is, as in pg_hba.conf. With trust and cert the servers must let the router in without a password.",
    })
    .default("scram-sha-256"),
  map: z
    .record(z.string().min(1).max(256), oneOrMany(z.string().min(1).max(63), { description: "Users." }))
    .meta({
      description: "cert: which users a certificate's common name may be.",
      "x-default": "the user of the same name",
    })
    .optional(),
});

const limitOf = (description: string) =>
  wholeNumber({ description, "x-default": "no limit of its own" }, 1, 1_000_000).optional();

const limits = z.strictObject({
  clients: wholeNumber({ description: "The most clients at once." }, 1, 1_000_000).default(2000),
  per_user: limitOf("The most clients of one user."),
  per_database: limitOf("The most clients of one database."),
  per_node: limitOf("The most sessions on one node; further clients wait in the queue."),
  queue: wholeNumber({ description: "Clients that may wait for a place on a node." }, 0, 1_000_000).default(
    1000,
  ),
  queue_timeout: duration(
    { description: "How long they wait before they are refused." },
    { min: "10ms", max: "1h" },
  ).prefault("10s"),
  starting: wholeNumber(
    { description: "The most connections that have not proven yet who they are." },
    1,
    1_000_000,
  ).default(1000),
});

const timeouts = z.strictObject({
  connect: duration(
    { description: "How long connecting to a server may take." },
    { min: "100ms", max: "5min" },
  ).prefault("5s"),
  startup: duration(
    { description: "How long a client's start-up may take: TLS, its name, its proof." },
    { min: "500ms", max: "5min" },
  ).prefault("10s"),
  hold: duration(
    { description: "How long a client is held while no primary serves; then it gets an error." },
    { min: "0s", max: "1h" },
  ).prefault("30s"),
  idle: durationOrOff(
    { description: "Clients idle for longer are disconnected." },
    { min: "1s", max: "365d" },
  ).prefault("off"),
  stop: duration(
    { description: "How long transactions may go on when the router is told to end or a node is drained." },
    { min: "0s", max: "1d" },
  ).prefault("10s"),
  upgrade: duration(
    {
      description:
        "How long clients may stay on the old process after an upgrade (SIGUSR2); then it ends as when it is told to.",
    },
    { min: "0s", max: "30d" },
  ).prefault("1h"),
});

const vip = z
  .strictObject({
    name: name({
      description: "Name of its lock in the DCS.",
      "x-default": "the address",
    }).optional(),
    address: z
      .string()
      .refine(
        (value) => parseNetwork(value) !== undefined,
        "expected an address with its prefix length, such as 10.0.0.100/24",
      )
      .meta({ description: "The address with its prefix length; without one it is a single host's." }),
    interface: z
      .string()
      .regex(/^[^\s/]{1,15}$/, "expected the name of a network interface such as eth0")
      .meta({ description: "The network interface it is put on." }),
    bind: z
      .enum(["leader", "router"])
      .meta({
        description:
          "leader: it follows the primary, whose host runs a router. router: one healthy router holds it, by a lock in the DCS.",
      })
      .default("router"),
    node: nodeName({
      description: "bind: leader. The node that runs on this host.",
      "x-default": "the node whose address is this host's",
    }).optional(),
    priority: wholeNumber(
      { description: "bind: router. The healthy router with the highest takes a free address." },
      0,
      1000,
    ).default(100),
    preempt: flag({
      description: "bind: router. Take it from a healthy holder of lower priority.",
    }).default(false),
    lock: duration(
      {
        description:
          "How long the lock outlives its last renewal: how long the address is away when a whole host dies.",
      },
      { min: "3s", max: "1min" },
    ).prefault("5s"),
    lifetime: duration(
      {
        description:
          "How long the kernel keeps the address at most without being told again, in whole seconds; never so long that the lock could be another's.",
      },
      { min: "1s", max: "1min" },
    )
      .refine((value) => value % 1000 === 0, "the kernel counts whole seconds")
      .prefault("10s"),
    duplicate_check: flag({
      description: "Ask the network for another holder before an unplanned take-over.",
    }).default(true),
    commands: z
      .strictObject({
        acquire: programme("Brings the address here; exit status 0 = it is here."),
        release: programme("Takes it away."),
        verify: programme("Exit status 0 = it is here.").optional(),
      })
      .meta({ description: "Move the address by programs (a cloud's API) instead of on the interface." })
      .optional(),
    notify: z
      .strictObject({
        gained: programme("Run after the address came here.").optional(),
        lost: programme("Run after it left.").optional(),
        fault: programme("Run when it should be here and cannot.").optional(),
      })
      .meta({ description: "Programs that are told of changes." })
      .prefault({}),
  })
  .meta({ description: "A virtual address." });

/** The router file. Input side = the YAML document. */
export const routerFileSchema = z.strictObject({
  cluster: name({ description: "Name of the cluster." }),
  namespace: z
    .string()
    .regex(
      /^\/?[A-Za-z0-9_.-]{1,63}(\/[A-Za-z0-9_.-]{1,63}){0,7}\/?$/,
      "expected a name of letters, digits, _, - and .",
    )
    .transform((value) => value.replace(/^\/|\/$/g, ""))
    .meta({ description: "First part of the cluster's keys in the DCS: `/<namespace>/<cluster>/`." })
    .prefault("service"),
  router: name({
    description: "Name of this router, unique among those of the cluster.",
    "x-default": "the host's name",
  }).optional(),
  address: host({ description: "Host name or IP address under which others reach this host." }).refine(
    (value) => !/^(0\.0\.0\.0|::0?)$/.test(value),
    "nobody can connect to this address: name the one of this host",
  ),
  location: text({ description: "Where this host stands, such as a data centre.", "x-default": "none" })
    .max(63)
    .optional(),
  dcs: dcsSchema,
  state_dir: absolutePath({
    description: "The router's own files: the highest token it has seen, a certificate it made.",
    "x-default": "`/var/lib/pgherd/<cluster>-<router>`",
  }).optional(),
  listeners: z
    .record(
      z
        .string()
        .regex(
          /^[A-Za-z][A-Za-z0-9_-]{0,31}$/,
          "expected a name of letters, digits, _ and - that begins with a letter, at most 32 characters",
        ),
      listener,
    )
    .refine((value) => Object.keys(value).length > 0, "needs at least one listener")
    .refine((value) => Object.keys(value).length <= 32, "at most 32 listeners")
    .meta({ description: "The addresses applications connect to, by name." })
    .prefault({ primary: {}, standby: {} }),
  tls: clientTls.meta({ description: "TLS towards clients." }).prefault({}),
  backend_tls: z
    .strictObject({
      mode: z
        .enum(["disable", "prefer", "require", "verify-full"])
        .meta({ description: "As libpq's sslmode." })
        .default("prefer"),
      ca_file: absolutePath({
        description: "The authority that signed the servers' certificates, PEM.",
        "x-default": "the system's",
      }).optional(),
    })
    .meta({ description: "TLS towards PostgreSQL." })
    .prefault({}),
  access: z
    .array(accessRule)
    .max(10_000)
    .meta({
      description:
        "Who may come in: the first rule that matches decides, and whom none matches is refused. Without rules: everybody, with SCRAM (md5 for users whose password is stored so).",
    })
    .default([]),
  limits: limits.meta({ description: "How much the router takes on." }).prefault({}),
  timeouts: timeouts.meta({ description: "How long things may take." }).prefault({}),
  open_after_archive: durationOrOff(
    {
      description:
        "After a failover wait this long at most for the WAL archive to catch up before clients of this router go on.",
      "x-default": "the cluster's setting of this name",
    },
    { min: "100ms", max: "1h" },
  ).optional(),
  admin: z
    .strictObject({
      listen: listen.default("127.0.0.1"),
      port: port({ description: "Port of the console." }).default(6432),
      users: z
        .array(z.string().min(1).max(63))
        .max(1000)
        .meta({
          description: "Users of PostgreSQL that may log in to the console, besides the cluster's superuser.",
        })
        .default([]),
    })
    .meta({ description: "The console." })
    .prefault({}),
  metrics: z
    .strictObject({
      listen: listen.default("127.0.0.1"),
      port: port({ description: "Port of metrics, health and status (HTTP)." }).default(9187),
    })
    .meta({ description: "Metrics." })
    .prefault({}),
  vip: z.array(vip).max(32).meta({ description: "Virtual addresses this host may hold." }).default([]),
  agents: z
    .strictObject({
      ca_file: absolutePath({
        description: "The authority that signed the certificates of the agents' API, PEM.",
        "x-default": "the system's",
      }).optional(),
    })
    .meta({ description: "The agents' API." })
    .prefault({}),
  log: z
    .strictObject({
      level: z
        .enum(["trace", "debug", "info", "warn", "error"])
        .meta({ description: "The least important lines that are written." })
        .default("info"),
      format: z
        .enum(["auto", "json", "pretty"])
        .meta({ description: "auto: pretty on a terminal, else JSON." })
        .default("auto"),
    })
    .meta({ description: "The router's log." })
    .prefault({}),
});

/** The router file after validation: snake_case as written, with defaults, milliseconds and bytes. */
export type RouterFile = z.output<typeof routerFileSchema>;
