/** How many bytes each unit of a size has: powers of 1024, as PostgreSQL counts. `MiB` means the same as `MB`. */
const unitBytes: Readonly<Record<string, number>> = {
  b: 1,
  kb: 1024,
  mb: 1024 ** 2,
  gb: 1024 ** 3,
  tb: 1024 ** 4,
};

/** The text form of a size: a number, then a unit. For JSON Schema and for `parseSize`. */
export const sizePattern = "^\\d{1,15}(\\.\\d{1,6})? ?(B|kB|KB|MB|GB|TB|KiB|kiB|MiB|GiB|TiB)$";

/**
 * Bytes of a size such as `16MB`, `1MiB`, `512kB` (1 kB = 1024 bytes, as in PostgreSQL); a plain number counts bytes.
 * undefined when it is none, is negative, or does not come to a whole number of bytes.
 */
export function parseSize(value: string | number): number | undefined {
  if (typeof value === "number") return wholeBytes(value);
  const text = value.trim();
  if (/^\d{1,15}$/.test(text)) return wholeBytes(Number(text));
  if (!new RegExp(sizePattern).test(text)) return undefined;
  const unit = (/[A-Za-z]+$/.exec(text)?.[0] ?? "").toLowerCase().replace("ib", "b");
  const factor = unitBytes[unit];
  return factor === undefined ? undefined : wholeBytes(Number.parseFloat(text) * factor);
}

function wholeBytes(bytes: number): number | undefined {
  return Number.isSafeInteger(bytes) && bytes >= 0 ? bytes || 0 : undefined; // not -0
}

/** The shortest text that reads back as the same size: `1MB`, `1536kB`. `bytes` is a whole number. */
export function formatSize(bytes: number): string {
  if (bytes === 0) return "0B";
  const units = [
    ["TB", 1024 ** 4],
    ["GB", 1024 ** 3],
    ["MB", 1024 ** 2],
    ["kB", 1024],
  ] as const;
  const unit = units.find(([, factor]) => bytes % factor === 0);
  return unit === undefined ? `${bytes}B` : `${bytes / unit[1]}${unit[0]}`;
}
