import { setFlagsFromString } from "node:v8";

/**
 * Lets the heap of this process grow to five times what is live before it is collected. For a process that streams gigabytes through
 * buffers of a megabyte: they count as heap, and a small one is otherwise collected after every few of them.
 */
export function collectSeldom(): void {
  setFlagsFromString("--heap-growing-percent=400");
}
