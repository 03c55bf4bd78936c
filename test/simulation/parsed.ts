const read = new Map<string, unknown>();
const most = 64;

/** The value of a JSON text; those read last are not read again. Nobody may change it. */
export function parsed(text: string): unknown {
  let value = read.get(text);
  if (value === undefined) {
    if (read.size >= most) read.clear();
    value = JSON.parse(text) as unknown;
    read.set(text, value);
  }
  return value;
}
