/**
 * The text of one PREPARE, out of the query string it came in. pg_prepared_statements keeps the whole string: when a client
 * sent several statements at once, running it again would run all of them again.
 * @returns null = it cannot be told apart with certainty
 */
export function singlePrepare(text: string): string | null {
  const trimmed = text.trim();
  const body = trimmed.endsWith(";") ? trimmed.slice(0, -1) : trimmed;
  if (!body.includes(";") && /^prepare[\s"]/i.test(body)) return body;
  return null;
}
