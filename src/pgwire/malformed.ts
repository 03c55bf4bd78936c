/** Bytes that break the protocol: a length that lies, a text without its end, a message where it may not stand. */
export class MalformedMessage extends Error {
  override readonly name = "MalformedMessage";
  /** The message or packet that was being read, for example "Bind". */
  readonly where: string;
  /** What is wrong with it, in words a log can carry; no bytes of the message. */
  readonly what: string;

  constructor(where: string, what: string) {
    super(`${where}: ${what}`);
    this.where = where;
    this.what = what;
  }
}
