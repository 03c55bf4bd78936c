/**
 * Microseconds since 1970 of an ISO 8601 text: PostgreSQL's clock is that fine, JavaScript's is not. null = the text is none.
 */
export function microsOf(text: string): bigint | null {
  const ms = Date.parse(text);
  if (Number.isNaN(ms)) return null;
  const fraction = /\.([0-9]+)/.exec(text)?.[1] ?? "";
  const micros = fraction.slice(3, 6).padEnd(3, "0");
  return BigInt(ms) * 1000n + BigInt(micros);
}
