import type { Issue } from "./issues.ts";
import { directoriesOf, supervisorSocket } from "./node-config.ts";
import type { NodeFile } from "./node-file-schema.ts";
import type { DocumentPath } from "./problem.ts";

/** The operating system's limit for the path of a unix socket, in bytes. */
const socketPathLimit = 107;
/** Of PostgreSQL's: some are kept free for the lock file's ending. */
const longestSocketPath = 100;

/** Mistakes that only show when several keys are looked at together. */
export function crossCheck(file: NodeFile): Issue[] {
  return [...checkDirectories(file), ...checkNames(file)];
}

function value(path: DocumentPath, message: string): Issue {
  return { kind: "value", path, message };
}

function checkDirectories(file: NodeFile): Issue[] {
  const { stateDir, socketDir } = directoriesOf(file);
  const issues: Issue[] = [];
  if (file.data_dir === "/")
    issues.push(value(["data_dir"], "a data directory cannot be the root of the file system"));
  const inData = (path: string): boolean => path === file.data_dir || path.startsWith(`${file.data_dir}/`);
  const replaced = "lies in data_dir, which is replaced as a whole when the node is copied anew";
  if (file.state_dir !== undefined && inData(stateDir)) issues.push(value(["state_dir"], replaced));
  if (file.postgresql.socket_dir !== undefined && inData(socketDir))
    issues.push(value(["postgresql", "socket_dir"], replaced));
  const guardPath = Buffer.byteLength(`${stateDir}/${supervisorSocket}`);
  if (guardPath > socketPathLimit) {
    const message = `the guard's unix sockets in ${stateDir} have up to ${guardPath} bytes in their path, more than ${socketPathLimit}; set state_dir to a shorter one`;
    issues.push(value(["state_dir"], message));
  }
  const bytes = Buffer.byteLength(`${socketDir}/.s.PGSQL.${file.postgresql.port}`);
  if (bytes > longestSocketPath) {
    const message = `the path of the unix socket in ${socketDir} has ${bytes} bytes, more than ${longestSocketPath}; set postgresql.socket_dir to a shorter one`;
    issues.push(value(["postgresql", "socket_dir"], message));
  }
  return issues;
}

function checkNames({ node, tags, api, postgresql }: NodeFile): Issue[] {
  const issues: Issue[] = [];
  if (api.port === postgresql.port) issues.push(value(["api", "port"], "is the same as postgresql.port"));
  if (tags.replicatefrom === node)
    issues.push(value(["tags", "replicatefrom"], "a node cannot stream from itself"));
  return issues;
}
