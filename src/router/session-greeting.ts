import { authenticationOk, backendKeyData, parameterStatus, readyForQuery } from "../pgwire/encode.ts";
import { transactionState } from "../pgwire/message-types.ts";
import type { Backend } from "./backend.ts";
import type { AdmittedClient } from "./client.ts";

/** What a client is told when its login is complete: the server's parameters, and a key for cancel requests of our own. */
export function greeting(client: AdmittedClient, backend: Backend): Buffer {
  const parameters = [...backend.parameters].map(([name, value]) => parameterStatus(name, value));
  const key = backendKeyData(client.cancelKey.pid, Buffer.from(client.cancelKey.secret, "latin1"));
  return Buffer.concat([authenticationOk(), ...parameters, key, readyForQuery(transactionState.idle)]);
}

/** What a client must be told of a new server: each parameter that is not what it was. */
export function newParameters(known: ReadonlyMap<string, string>, backend: Backend): Buffer {
  const changed = [...backend.parameters].filter(([name, value]) => known.get(name) !== value);
  return Buffer.concat(changed.map(([name, value]) => parameterStatus(name, value)));
}
