// Slows connections down, each direction by the same time: for a kernel that cannot (netem).
//   node relay.mjs PORT HOST:PORT MILLISECONDS
import { connect, createServer } from "node:net";

const [port, target, delay] = process.argv.slice(2);
const [host, targetPort] = target.split(":");
/** Held bytes of one direction beyond which its source has to wait. */
const heldLimit = 4 * 1024 * 1024;

function pass(from, to) {
  let held = 0;
  from.on("data", (chunk) => {
    held += chunk.length;
    if (held > heldLimit) from.pause();
    setTimeout(() => {
      held -= chunk.length;
      if (held < heldLimit) from.resume();
      if (!to.destroyed) to.write(chunk);
    }, Number(delay));
  });
  from.on("end", () => setTimeout(() => to.end(), Number(delay)));
}

createServer({ allowHalfOpen: true }, (client) => {
  console.log(`${new Date().toISOString()} a connection to ${target}`);
  const server = connect({ host, port: Number(targetPort), allowHalfOpen: true });
  for (const socket of [client, server]) {
    socket.setNoDelay(true);
    socket.on("error", () => {
      client.destroy();
      server.destroy();
    });
  }
  pass(client, server);
  pass(server, client);
}).listen(Number(port), "127.0.0.1");
