// What this machine must have, how that is found out, and which Debian package brings it. Needs nothing but Node.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";

const oldestPostgres = 13;

/**
 * One thing the project needs from the machine.
 * @typedef {{what: string, packages: string[], present: () => boolean}} Requirement
 */

/** Where PostgreSQL's programs are: the newest major version from 13 on; undefined = none found. */
export function postgresBinDir() {
  const base = "/usr/lib/postgresql";
  const versions = existsSync(base)
    ? readdirSync(base)
        .map(Number)
        .filter((major) => major >= oldestPostgres)
    : [];
  for (const major of versions.sort((a, b) => b - a)) {
    const dir = join(base, String(major), "bin");
    if (existsSync(join(dir, "postgres")) && existsSync(join(dir, "initdb"))) return dir;
  }
  return (process.env.PATH ?? "")
    .split(delimiter)
    .find((dir) => dir !== "" && existsSync(join(dir, "postgres")) && existsSync(join(dir, "initdb")));
}

/** The user called `postgres`, as whom everything runs that may not run as root; undefined = no such user. */
export function postgresUser() {
  const line = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .find((entry) => entry.startsWith("postgres:"));
  if (line === undefined) return undefined;
  const fields = line.split(":");
  return { uid: Number(fields[2]), gid: Number(fields[3]), home: fields[5] ?? "/" };
}

function onPath(program) {
  const places = [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/sbin", "/usr/bin"];
  return places.some((dir) => dir !== "" && existsSync(join(dir, program)));
}

function program(name, packages, what = name) {
  return { what, packages, present: () => onPath(name) };
}

/** The library that shows one process a wrong clock. */
function hasFaketime() {
  const places = readdirSync("/usr/lib", { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return places.some(({ name }) => existsSync(join("/usr/lib", name, "faketime/libfaketime.so.1")));
}

/** A module of Debian's Python, which has no program of its own. */
function pythonModule(name, packages) {
  const place = "/usr/lib/python3/dist-packages";
  return { what: `Python's ${name}`, packages, present: () => existsSync(join(place, name)) };
}

/** The peers, by the names that the measurements' `--peer` takes. */
const peerRequirements = {
  barman: program("barman", ["barman"]),
  pgbackrest: program("pgbackrest", ["pgbackrest"]),
  haproxy: program("haproxy", ["haproxy"]),
  pgbouncer: program("pgbouncer", ["pgbouncer"]),
  pgpool: program("pgpool", ["pgpool2"]),
};

/** The drivers that the tests drive beside node-postgres; a JRE has no compiler, so Debian's ecj comes with it. */
const driverRequirements = [
  program("psql", ["postgresql-client"]),
  // Debian's own: another Python on the path does not find Debian's modules.
  { what: "python3", packages: ["python3"], present: () => existsSync("/usr/bin/python3") },
  pythonModule("psycopg", ["python3-psycopg"]),
  program("java", ["default-jre-headless"]),
  program("ecj", ["ecj"]),
  {
    what: "pgjdbc",
    packages: ["libpostgresql-jdbc-java"],
    present: () => existsSync("/usr/share/java/postgresql.jar"),
  },
];

/** What moves virtual addresses and passes connections in the kernel; tests do both in networks of their own. */
const networkRequirements = [
  program("ip", ["iproute2"]),
  program("ss", ["iproute2"]),
  program("arping", ["iputils-arping"]),
  program("ndisc6", ["ndisc6"]),
  program("nft", ["nftables"]),
  program("conntrack", ["conntrack"]),
  program("unshare", ["util-linux"]),
];

/**
 * Everything needed to run pgherd; with `tests` also what only the tests drive; with `hosts` what makes hosts of
 * namespaces; with `peers` the other systems of these names.
 * @returns {Requirement[]}
 */
export function requirements({ tests, hosts = false, peers = [] }) {
  const list = [
    {
      what: `PostgreSQL ${oldestPostgres} or newer`,
      packages: ["postgresql"],
      present: () => postgresBinDir() !== undefined,
    },
    program("etcd", ["etcd-server"]),
    program("etcdctl", ["etcd-client"]),
  ];
  if (process.getuid?.() === 0)
    list.push({
      what: "the user postgres (PostgreSQL refuses to run as root)",
      packages: ["postgresql-common"],
      present: () => postgresUser() !== undefined,
    });
  if (tests)
    list.push(
      program("haproxy", ["haproxy"]),
      program("patronictl", ["patroni", "python3-etcd"]),
      program("openssl", ["openssl"]),
      ...driverRequirements,
      ...networkRequirements,
    );
  for (const peer of peers) list.push(peerRequirements[peer]);
  if (hosts)
    list.push(
      program("ip", ["iproute2"]),
      program("nft", ["nftables"]),
      program("nsenter", ["util-linux"]),
      program("mount", ["mount"]),
      program("mkfs.ext4", ["e2fsprogs"]),
    );
  if (tests || hosts) list.push({ what: "libfaketime", packages: ["libfaketime"], present: hasFaketime });
  return list;
}
