import type { Timers } from "../system/timers.ts";
import type { NetSocket } from "./net-socket.ts";

/** How long a client that was turned away may take to read why. */
const farewellMs = 2_000;

/**
 * Waits for the other end to close: dropping a connection whose bytes nobody has read takes from the client what was
 * written to it.
 */
export function partFrom(socket: NetSocket, timers: Timers): void {
  if (socket.destroyed) return;
  const timer = timers.after(farewellMs, () => socket.destroy());
  socket.onBytes = () => undefined;
  socket.onEnd = () => socket.destroy();
  socket.onClose = () => timer.cancel();
  socket.resume();
}
