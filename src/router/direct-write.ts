import type { Socket } from "node:net";

/** A request of Node's for a write that the kernel does not take at once. */
interface WriteRequest {
  oncomplete: ((status: number) => void) | null;
  /** Keeps the bytes alive until they have gone out. */
  buffer: Buffer | null;
}

/** What is needed of a socket's handle. */
interface Handle {
  writeBuffer?: (request: WriteRequest, bytes: Buffer) => number;
}

interface StreamWrap {
  readonly WriteWrap: new () => WriteRequest;
  readonly streamBaseState: ArrayLike<number>;
  readonly kLastWriteWasAsync: number;
}

/** Node's own way of writing to a socket, below its streams; null = this Node has not what it takes. */
const wrap = streamWrap();

function streamWrap(): StreamWrap | null {
  try {
    const inside = process as unknown as { binding?: (name: string) => Partial<StreamWrap> };
    const { WriteWrap, streamBaseState, kLastWriteWasAsync } = inside.binding?.("stream_wrap") ?? {};
    if (WriteWrap === undefined || streamBaseState === undefined || kLastWriteWasAsync === undefined)
      return null;
    return { WriteWrap, streamBaseState, kLastWriteWasAsync };
  } catch {
    return null;
  }
}

/** Used for write after write, as long as the kernel takes each at once: then Node does not touch it. */
let spare: WriteRequest | null = wrap === null ? null : new wrap.WriteWrap();

/** How a direct write went. failed: the number of the error. */
export type Written = "done" | "later" | "impossible" | { readonly failed: number };

/**
 * Writes past the stream machinery, which costs more than all else the router does with a small message. Only for a socket whose
 * stream has nothing queued; order is kept with what the stream writes later.
 * @param owner `gone` is called when bytes that were not taken at once have gone out, or never will
 */
export function writeDirectly(socket: Socket, bytes: Buffer, owner: { gone(status: number): void }): Written {
  const { _handle: handle } = socket as unknown as { _handle: Handle | null };
  if (wrap === null || spare === null || typeof handle?.writeBuffer !== "function") return "impossible";
  const request = spare;
  const failed = handle.writeBuffer(request, bytes);
  if (failed !== 0) return { failed };
  if (wrap.streamBaseState[wrap.kLastWriteWasAsync] === 0) return "done";
  request.buffer = bytes;
  request.oncomplete = (status) => {
    request.buffer = null;
    owner.gone(status);
  };
  spare = new wrap.WriteWrap();
  return "later";
}
