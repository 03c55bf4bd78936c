import { readIfPresent, writeDurably } from "../../postgres/durable-file.ts";
import type { Random } from "../../system/random.ts";
import { Fault, toFault } from "../../values/fault.ts";
import { Secret } from "../../values/secret.ts";

/**
 * The server's own token, made when there is none: readable by the server's user alone.
 * @throws Fault CONFIG_UNREADABLE
 */
export async function serverToken(file: string, random: Random): Promise<Secret> {
  try {
    const known = (await readIfPresent(file))?.trim() ?? "";
    if (known !== "") return new Secret(known);
    const token = random.secret(32);
    await writeDurably(file, `${token}\n`);
    return new Secret(token);
  } catch (thrown) {
    throw new Fault("CONFIG_UNREADABLE", `The server's token in ${file} cannot be read or made`, {
      detail: toFault(thrown).message,
      hint: "The user of the backup server must be able to; see api.token_file of the backup file.",
      cause: thrown,
    });
  }
}
