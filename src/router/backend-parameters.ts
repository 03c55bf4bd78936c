import type { Backend } from "./backend.ts";
import { decodeParameterStatus } from "../pgwire/decode.ts";

/** A thousand sessions of one application know the same dozen values: they are kept once. */
const shared = new Map<string, ReadonlyMap<string, string>>();
/** Different sets that are kept for sharing; beyond, sharing begins anew. */
const most = 1_000;

/** The same parameters, in the one object all sessions with them share. */
export function shareParameters(parameters: ReadonlyMap<string, string>): ReadonlyMap<string, string> {
  const key = JSON.stringify([...parameters]);
  const known = shared.get(key);
  if (known !== undefined) return known;
  if (shared.size >= most) shared.clear();
  shared.set(key, parameters);
  return parameters;
}

/** Remembers what a ParameterStatus says. */
export function noteParameter(backend: Backend, body: Buffer): void {
  const { name, value } = decodeParameterStatus(body);
  backend.parameters = shareParameters(new Map(backend.parameters).set(name, value));
}
