import type { Socket } from "node:net"

/**
 * Resets a connection, so that the other side gets an error instead of an end.
 *
 * Node.js (24.21) can't reset a socket whose end is just being sent: it answers EINVAL, keeps the descriptor for ever,
 * and the process never exits (`Environment::CleanupHandles` waits for it). Such a one is only closed.
 */
export const resetConnection = (socket: Socket): void => {
  if (socket.writableEnded && !socket.writableFinished) socket.destroy()
  else socket.resetAndDestroy()
}
