// Counts the bytes that a node sends and receives, and tells them to the process that has started
// it. A node loads this file with `node --import`; it changes nothing in the node.
import { subscribe } from "node:diagnostics_channel";
import { isMainThread } from "node:worker_threads";

// Worker threads load it too, and have no sockets.
if (isMainThread && process.send !== undefined) {
  const open = new Set();
  const ended = { sent: 0, received: 0 };

  const add = (to, { bytesWritten, bytesRead }) => {
    to.sent += bytesWritten;
    to.received += bytesRead;
  };

  const follow = ({ socket }) => {
    open.add(socket);
    socket.once("close", () => {
      open.delete(socket);
      add(ended, socket);
    });
  };
  subscribe("net.client.socket", follow);
  subscribe("net.server.socket", follow);

  process.on("message", () => {
    const counts = { ...ended };
    for (const socket of open) add(counts, socket);
    process.send({ ...counts, memory: process.memoryUsage() });
  });
  // A node that has nothing else to do may end.
  process.channel.unref();
}
