import { Fault } from "../values/fault.ts";
import { Secret } from "../values/secret.ts";

/** The token in the text of a file: a secrets file of an agent, or the bare token. @throws Fault CONFIG_INVALID */
export function tokenFrom(text: string, file: string): Secret {
  const trimmed = text.trim();
  if (!trimmed.startsWith("{")) {
    if (/^\S+$/.test(trimmed)) return new Secret(trimmed);
  } else {
    try {
      const secrets = JSON.parse(trimmed) as { api?: { token?: unknown } };
      if (typeof secrets.api?.token === "string") return new Secret(secrets.api.token);
    } catch {
      // Falls through: what cannot be parsed holds no token; the parser's message could quote it.
    }
  }
  throw new Fault("CONFIG_INVALID", `${file} holds no token`, {
    hint: 'It is the token alone, or {"api": {"token": ...}} as an agent writes it.',
  });
}
