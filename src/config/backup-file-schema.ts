import { z } from "zod";
import { clusterEntry, clusterKeys } from "./backup-cluster-schema.ts";
import { repository } from "./backup-fields.ts";
import { absolutePath, host, name, port, wholeNumber } from "./fields.ts";

const api = z
  .strictObject({
    port: port({ description: "Port of the HTTP API." }).default(8009),
    listen: host({ description: "Address the API listens on." }).default("0.0.0.0"),
    advertise_url: z
      .url({
        protocol: /^https?$/,
        error: (issue) =>
          issue.input === undefined ? undefined : "expected a URL such as http://10.0.0.20:8009",
      })
      .meta({
        description: "Under which URL others reach the API.",
        "x-default": "`http(s)://<address>:<api.port>`",
      })
      .optional(),
    tls: z
      .strictObject({
        cert_file: absolutePath({ description: "The server's certificate with its chain, PEM." }),
        key_file: absolutePath({ description: "Its private key, PEM." }),
        client_ca_file: absolutePath({
          description: "Clients with a certificate of this authority need no token.",
          "x-default": "client certificates are not asked for",
        }).optional(),
      })
      .meta({ description: "Serves HTTPS." })
      .optional(),
    token_file: absolutePath({
      description: "File with a token that is good for all clusters of this server; made when it is missing.",
      "x-default": "`<state_dir>/token`",
    }).optional(),
  })
  .superRefine((value, context) => {
    if (value.tls !== undefined && value.advertise_url?.startsWith("http:") === true)
      context.addIssue({
        code: "custom",
        path: ["advertise_url"],
        message: "begins with http:, but api.tls serves HTTPS",
      });
  });

/** The backup file. Input side = the YAML document. */
export const backupFileSchema = z.strictObject({
  cluster: name({
    description: "Name of the cluster; with several, `clusters` names them instead.",
    "x-default": "none; one of the two is needed",
  }).optional(),
  repository: repository({ description: "Where everything is stored: a directory, or a group of keys." }),
  ...clusterKeys,
  clusters: z
    .record(name({ description: "Name of a cluster." }), clusterEntry)
    .refine((value) => Object.keys(value).length > 0, "needs at least one cluster")
    .refine((value) => Object.keys(value).length <= 64, "at most 64 clusters")
    .meta({
      description: "Several clusters by name. What one does not say holds as it is written at the top.",
      "x-default": "the one of `cluster`",
    })
    .optional(),
  copies: z
    .array(repository({ description: "A directory, or a group of keys." }))
    .max(4)
    .meta({ description: "Further repositories that are kept in step with this one, elsewhere." })
    .default([]),
  name: name({
    description: "Name of this server's receiver of WAL, unique among nodes and receivers.",
  }).default("archive"),
  address: host({
    description: "Host name or IP address under which others reach this host.",
    "x-default": "the host's name",
  })
    .refine(
      (value) => !/^(0\.0\.0\.0|::0?)$/.test(value),
      "nobody can connect to this address: name the one of this host",
    )
    .optional(),
  state_dir: absolutePath({
    description: "The server's own files: its token, what is being received, room for drills.",
    "x-default": "`/var/lib/pgherd/backup-<name>`",
  }).optional(),
  jobs: wholeNumber({ description: "Jobs at the same time: backups, verifications, drills." }, 1, 16).default(
    2,
  ),
  parallel: wholeNumber(
    { description: "Objects that one job reads or writes at the same time." },
    1,
    64,
  ).default(4),
  api: api.meta({ description: "The HTTP API." }).prefault({}),
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
    .meta({ description: "The server's log." })
    .prefault({}),
});

/** The backup file after validation: snake_case as written, milliseconds and bytes. */
export type BackupFile = z.output<typeof backupFileSchema>;
