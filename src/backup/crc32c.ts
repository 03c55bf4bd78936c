type Update = (data: Uint8Array, crc: number) => number;

/** The CRC-32C of bytes, as PostgreSQL has it in WAL records and manifests. @param crc of what came before; 0 at the beginning */
export const crc32c: Update = (await packaged()) ?? plain;

/** Four gigabytes a second; null = there is no build of the package for this platform. */
async function packaged(): Promise<Update | null> {
  try {
    const { crc32c: update } = await import("@node-rs/crc32");
    return (data, crc) => update(data, crc);
  } catch {
    return null;
  }
}

const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc >>> 0;
});

function plain(data: Uint8Array, crc: number): number {
  let rest = ~crc >>> 0;
  for (const byte of data) rest = ((table[(rest ^ byte) & 0xff] ?? 0) ^ (rest >>> 8)) >>> 0;
  return ~rest >>> 0;
}
