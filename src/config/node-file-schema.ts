import { z } from "zod";
import { eventNames } from "../cluster/decision.ts";
import { clusterSettingsSchema } from "./cluster-settings-schema.ts";
import { dcsSchema } from "./dcs-schema.ts";
import {
  absolutePath,
  command,
  duration,
  flag,
  host,
  name,
  nodeName,
  port,
  text,
  wholeNumber,
} from "./fields.ts";
import { aboutTheName } from "./issues.ts";
import { nearestWord } from "./nearest.ts";
import { parameters } from "./parameters.ts";
import { basebackupOwned, initdbOwned, programOptions } from "./program-options.ts";

const knownTags = {
  nofailover: flag({ description: "Never becomes primary." }).default(false),
  noloadbalance: flag({ description: "Is not offered to readers." }).default(false),
  clonefrom: flag({ description: "Is the preferred source of copies." }).default(false),
  nosync: flag({ description: "Is never a synchronous standby." }).default(false),
  nostream: flag({
    description: "Never streams: its WAL is shipped by other means (postgresql.restore_command).",
  }).default(false),
  replicatefrom: nodeName({ description: "Streams from this node instead of the leader." }).optional(),
  failover_priority: wholeNumber(
    { description: "Among equally advanced nodes the highest becomes primary; 0 or less = never." },
    -1000,
    1000,
  ).default(1),
  weight: wholeNumber(
    { description: "Its share of the readers that a router spreads; 0 = gets no new ones." },
    0,
    1000,
  ).default(100),
};

const tags = z
  .object(knownTags)
  .catchall(
    z.union([z.string().max(256), z.number(), z.boolean()], {
      error: "expected a text, a number, true or false",
    }),
  )
  .superRefine((value, context) => {
    // Tags may have any name, so a mistyped one would go unseen: nofailver must not become a free tag.
    for (const name of Object.keys(value)) {
      const near = Object.hasOwn(knownTags, name) ? undefined : nearestWord(name, Object.keys(knownTags));
      const message = `did you mean tags.${near ?? ""}? A tag of your own needs a name that differs more`;
      if (near !== undefined)
        context.addIssue({ code: "custom", path: [name], message, params: aboutTheName });
    }
  });

const postgresql = z.strictObject({
  port: port({ description: "PostgreSQL's port." }).default(5432),
  listen: text({
    description: "Addresses PostgreSQL listens on (its listen_addresses): `*` or a list separated by commas.",
  }).default("*"),
  config_dir: absolutePath({
    description:
      "Where your own postgresql.conf, pg_hba.conf and pg_ident.conf are; pgherd never changes them.",
    "x-default": "`data_dir`",
  }).optional(),
  socket_dir: absolutePath({
    description: "Directory of PostgreSQL's unix socket. The whole path of the socket may have 100 bytes.",
    "x-default": "`<state_dir>/run`",
  }).optional(),
  basebackup: programOptions(basebackupOwned, {
    description: "Extra options of pg_basebackup, such as `--max-rate=50M`.",
  }).default([]),
  parameters: parameters({
    description: "PostgreSQL parameters of this node alone; they win over those of the cluster settings.",
  }).prefault({}),
  restore_command: text({
    description:
      "Fetches WAL from an archive (PostgreSQL's restore_command); wins over the cluster settings.",
    "x-default": "that of the cluster settings",
  }).optional(),
  recovery_min_apply_delay: duration(
    { description: "Replays WAL this much later than it was committed.", "x-default": "no delay" },
    { min: "0s", max: "24d" },
  ).optional(),
  start_timeout: duration(
    { description: "How long a start may take before it is reported; recovery goes on." },
    { min: "1s", max: "1d" },
  ).prefault("60s"),
  stop_timeout: duration(
    { description: "How long a clean stop may take before every process is killed." },
    { min: "1s", max: "1h" },
  ).prefault("30s"),
  rewind: flag({
    description:
      "Whether pg_rewind may be used on this node; false = it is copied anew when it has diverged.",
  }).default(true),
  superuser: text({ description: "PostgreSQL's superuser, made by initdb or found in an adopted directory." })
    .max(63)
    .default("postgres"),
});

const apiTls = z.strictObject({
  cert_file: absolutePath({ description: "The server's certificate with its chain, PEM." }),
  key_file: absolutePath({ description: "Its private key, PEM." }),
  client_ca_file: absolutePath({
    description: "Clients with a certificate of this authority may write without a token.",
    "x-default": "client certificates are not asked for",
  }).optional(),
});

const api = z
  .strictObject({
    port: port({ description: "Port of the HTTP API." }).default(8008),
    listen: host({ description: "Address the API listens on." }).default("0.0.0.0"),
    advertise_url: z
      .url({
        protocol: /^https?$/,
        error: (issue) =>
          issue.input === undefined ? undefined : "expected a URL such as http://10.0.0.11:8008",
      })
      .meta({
        description: "Under which URL others reach the API.",
        "x-default": "`http(s)://<address>:<api.port>`",
      })
      .optional(),
    tls: apiTls.meta({ description: "Serves HTTPS." }).optional(),
    token_file: absolutePath({
      description:
        'JSON file with the token that write requests carry (`{"api": {"token": ...}}`); made when it is missing.',
      "x-default": "`<state_dir>/secrets.json`",
    }).optional(),
    username: text({
      description: "User of HTTP Basic, accepted over TLS and loopback; needs api.password_file.",
    }).optional(),
    password_file: absolutePath({ description: "File that holds that user's password." }).optional(),
  })
  .superRefine((value, context) => {
    const refuse = (key: keyof typeof value, message: string): void =>
      context.addIssue({ code: "custom", path: [key], message });
    if (value.username === undefined && value.password_file !== undefined)
      refuse("password_file", "needs api.username");
    if (value.username !== undefined && value.password_file === undefined)
      refuse("username", "needs api.password_file");
    if (value.username?.includes(":") === true)
      refuse("username", "a user of HTTP Basic cannot hold a colon");
    if (value.tls !== undefined && value.advertise_url?.startsWith("http:") === true)
      refuse("advertise_url", "begins with http:, but api.tls serves HTTPS");
  });

const hook = z.strictObject({
  events: z
    .array(z.enum(eventNames))
    .min(1)
    .meta({ description: "Names of events (docs/reference/events.md).", "x-default": "all" })
    .optional(),
  command: command({
    description:
      "The program and its arguments; facts come as PGHERD_... variables and as JSON on standard input.",
  }),
  timeout: duration(
    { description: "After this time the program is killed." },
    { min: "100ms", max: "1h" },
  ).prefault("10s"),
});

const fenceCommand = z.strictObject({
  command: command({
    description: "The program and its arguments; exit status 0 = the old leader is fenced.",
  }),
  timeout: duration(
    { description: "After this time the program is killed." },
    { min: "100ms", max: "5min" },
  ).prefault("10s"),
});

const watchdog = z.strictObject({
  mode: z
    .enum(["off", "automatic", "required"])
    .meta({
      description:
        "automatic: a watchdog device is used while this node leads, where there is one. required: without it this node does not lead.",
    })
    .default("off"),
  device: absolutePath({
    description:
      "The device. Its timeout must be shorter than the lease: `wdctl --settimeout 4 /dev/watchdog`; systemd must not use it itself.",
  }).default("/dev/watchdog"),
});

const backup = z.strictObject({
  key_file: absolutePath({
    description:
      "The key of an encrypted repository, as the backup server's `key_file`: restores of this node open it themselves.",
    "x-default": "none",
  }).optional(),
  seed: flag({
    description:
      "A new or broken standby is restored from the archive, so that no other node is read for it; copied from a member where that fails.",
  }).default(false),
  restore_below: absolutePath({
    description:
      "Below this directory the agent restores to where it is asked to (`pgherd backup restore --on NODE`), and nowhere else.",
    "x-default": "none: it refuses",
  }).optional(),
});

const bootstrap = z.strictObject({
  settings: clusterSettingsSchema
    .meta({
      description: "The first cluster settings. Afterwards they live in the DCS: `pgherd config edit`.",
      "x-whole": true,
    })
    .optional(),
  initdb: programOptions(initdbOwned, {
    description: "Extra options of initdb, such as `--locale=C.UTF-8`.",
  }).default([]),
  data_checksums: flag({ description: "Whether the data pages carry checksums." }).default(true),
});

const log = z.strictObject({
  level: z
    .enum(["trace", "debug", "info", "warn", "error"])
    .meta({ description: "The least important lines that are written." })
    .default("info"),
  format: z
    .enum(["auto", "json", "pretty"])
    .meta({ description: "auto: pretty on a terminal, else JSON." })
    .default("auto"),
});

/** The node file: what one host needs to know before it can ask the DCS anything. Input side = the YAML document. */
export const nodeFileSchema = z.strictObject({
  cluster: name({ description: "Name of the cluster; the same on all its nodes." }),
  namespace: z
    .string()
    .regex(
      /^\/?[A-Za-z0-9_.-]{1,63}(\/[A-Za-z0-9_.-]{1,63}){0,7}\/?$/,
      "expected a name of letters, digits, _, - and .",
    )
    .transform((value) => value.replace(/^\/|\/$/g, ""))
    .meta({ description: "First part of the cluster's keys in the DCS: `/<namespace>/<cluster>/`." })
    .prefault("service"),
  node: nodeName({ description: "Name of this node, unique in its cluster." }),
  address: host({
    description: "Host name or IP address under which the other nodes and clients reach this host.",
  }).refine(
    (value) => !/^(0\.0\.0\.0|::0?)$/.test(value),
    "nobody can connect to this address: name the one of this host",
  ),
  data_dir: absolutePath({
    description: "PostgreSQL's data directory. It may be empty or missing; one with data is adopted.",
  }),
  state_dir: absolutePath({
    description: "pgherd's own files: generated configuration, secrets, logs. Not inside data_dir.",
    "x-default": "`<data_dir>.pgherd`",
  }).optional(),
  bin_dir: absolutePath({
    description: "Where PostgreSQL's programs are.",
    "x-default":
      "that of the data directory's version, else the newest, in `/usr/lib/postgresql/*/bin` and `/usr/pgsql-*/bin`, else PATH",
  }).optional(),
  location: text({ description: "Where this host stands, such as a data centre.", "x-default": "none" })
    .max(63)
    .optional(),
  tags: tags
    .meta({ description: "What this node may become, and any other facts (text, number, true or false)." })
    .prefault({}),
  dcs: dcsSchema,
  postgresql: postgresql.meta({ description: "PostgreSQL on this host." }).prefault({}),
  api: api.meta({ description: "The HTTP API of the agent." }).prefault({}),
  hooks: z.array(hook).max(100).meta({ description: "Programs run after events." }).default([]),
  fence_command: fenceCommand
    .meta({
      description:
        "Run before this node takes over from a leader that fell silent; not after one that handed over.",
    })
    .optional(),
  watchdog: watchdog
    .meta({
      description: "The kernel's watchdog resets a leader on which neither agent nor guard runs any more.",
    })
    .prefault({}),
  backup: backup.meta({ description: "What this node needs to read from a backup server." }).prefault({}),
  bootstrap: bootstrap.meta({ description: "Used once, by the node that creates the cluster." }).prefault({}),
  log: log.meta({ description: "The agent's log." }).prefault({}),
});

/** The node file after validation: snake_case as written, with defaults, milliseconds and bytes. */
export type NodeFile = z.output<typeof nodeFileSchema>;
