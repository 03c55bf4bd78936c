// A client of a few hundred bytes: thousands of connections from one process. Logs in (SCRAM-SHA-256 or no password),
// runs simple queries whose rows nobody looks at, and is told when it is cut.
import { createHash, createHmac, pbkdf2Sync, randomBytes } from "node:crypto";
import { connect } from "node:net";

const int32 = (value) => {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeInt32BE(value);
  return bytes;
};
const message = (type, body) => Buffer.concat([Buffer.from(type, "latin1"), int32(body.length + 4), body]);
const zeroEnded = (...texts) => Buffer.from(texts.map((text) => `${text}\0`).join(""));

/** The hashes of a password are dear (4096 rounds): once for each salt, as long-lived applications have it. */
const salted = new Map();
function saltedPassword(password, salt, rounds) {
  const key = `${password}\0${salt}\0${rounds}`;
  let found = salted.get(key);
  if (found === undefined) {
    found = pbkdf2Sync(password, Buffer.from(salt, "base64"), rounds, 32, "sha256");
    salted.set(key, found);
  }
  return found;
}
const hmac = (key, text) => createHmac("sha256", key).update(text).digest();

function scramProof(password, firstBare, serverFirst) {
  const fields = Object.fromEntries(serverFirst.split(",").map((field) => [field[0], field.slice(2)]));
  const clientKey = hmac(saltedPassword(password, fields.s, Number(fields.i)), "Client Key");
  const withoutProof = `c=biws,r=${fields.r}`;
  const stored = createHash("sha256").update(clientKey).digest();
  const signature = hmac(stored, `${firstBare},${serverFirst},${withoutProof}`);
  const proof = clientKey.map((byte, index) => byte ^ signature[index]);
  return `${withoutProof},p=${Buffer.from(proof).toString("base64")}`;
}

function errorText(body) {
  const fields = new Map(
    body
      .toString()
      .split("\0")
      .filter((field) => field !== "")
      .map((field) => [field[0], field.slice(1)]),
  );
  return `${fields.get("C")} ${fields.get("M")}`;
}

/**
 * @typedef {object} WireClient
 * @property {(sql: string) => Promise<void>} query rejects with PostgreSQL's code and message
 * @property {() => boolean} open
 * @property {() => void} close says goodbye and ends
 * @property {() => void} drop ends without a word
 */

/**
 * Connects and logs in.
 * @param {{host: string, port: number, user: string, password: string, database: string, limitMs: number}} target
 * @returns {Promise<WireClient>}
 */
export function connectWire({ host, port, user, password, database, limitMs }) {
  const socket = connect({ host, port, noDelay: true });
  let rest = null;
  let firstBare = "";
  let waiting = null;
  let failure = null;
  let limit = null;

  const settle = (error) => {
    clearTimeout(limit);
    const current = waiting;
    waiting = null;
    if (error === null) current?.resolve();
    else current?.reject(error);
  };
  const begin = (send) =>
    new Promise((resolve, reject) => {
      if (socket.destroyed) return reject(new Error("the connection is closed"));
      waiting = { resolve, reject };
      failure = null;
      limit = setTimeout(() => {
        settle(new Error(`no answer within ${limitMs} ms`));
        socket.destroy();
      }, limitMs);
      send();
    });

  const onMessage = (type, body) => {
    if (type === "E") failure = new Error(errorText(body));
    else if (type === "Z") settle(failure);
    else if (type === "R") onAuthentication(body.readInt32BE(0), body.subarray(4));
  };
  const onAuthentication = (kind, body) => {
    if (kind === 10) {
      firstBare = `n=,r=${randomBytes(18).toString("base64")}`;
      const first = Buffer.from(`n,,${firstBare}`);
      socket.write(message("p", Buffer.concat([zeroEnded("SCRAM-SHA-256"), int32(first.length), first])));
    } else if (kind === 11)
      socket.write(message("p", Buffer.from(scramProof(password, firstBare, body.toString()))));
    else if (kind !== 0 && kind !== 12) {
      settle(new Error(`authentication ${kind} is not known to this client`));
      socket.destroy();
    }
  };
  socket.on("data", (chunk) => {
    let bytes = rest === null ? chunk : Buffer.concat([rest, chunk]);
    while (bytes.length >= 5 && bytes.length > bytes.readInt32BE(1)) {
      const end = bytes.readInt32BE(1) + 1;
      onMessage(String.fromCharCode(bytes[0]), bytes.subarray(5, end));
      bytes = bytes.subarray(end);
    }
    // A copy: a piece of it would keep the whole of what was read.
    rest = bytes.length === 0 ? null : Buffer.from(bytes);
  });
  socket.on("error", (error) => settle(error));
  socket.on("close", () => settle(failure ?? new Error("the connection was closed")));

  const client = {
    query: (sql) => begin(() => socket.write(message("Q", zeroEnded(sql)))),
    open: () => !socket.destroyed && !socket.readableEnded,
    close: () => socket.end(message("X", Buffer.alloc(0))),
    drop: () => socket.destroy(),
  };
  return begin(() => {
    const body = Buffer.concat([
      int32(196608),
      zeroEnded("user", user, "database", database),
      Buffer.from([0]),
    ]);
    socket.write(Buffer.concat([int32(body.length + 4), body]));
  }).then(
    () => client,
    (error) => {
      socket.destroy();
      throw error;
    },
  );
}
