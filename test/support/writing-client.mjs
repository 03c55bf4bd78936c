// A client that writes one row after another through one address, and connects anew after each failure. Prints a line for each
// acknowledged row, with the monotonic time in milliseconds, and one for each failure.
//   node writing-client.mjs HOST PORT      with PGUSER, PGPASSWORD, PGDATABASE
import pg from "pg";

const [host, port] = process.argv.slice(2);
const limitMs = 1500;
const say = (word, rest) => console.log(`${word} ${Math.round(performance.now())} ${rest}`);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function write(client, id) {
  await client.query({ text: "insert into written values ($1)", values: [id], query_timeout: limitMs });
}

let id = 0;
for (;;) {
  const client = new pg.Client({ host, port: Number(port), connectionTimeoutMillis: limitMs });
  client.on("error", () => undefined);
  try {
    await client.connect();
    for (;;) {
      id += 1;
      await write(client, id);
      say("row", id);
      await sleep(20);
    }
  } catch (error) {
    say("failure", error.message);
    client.connection.stream.destroy();
    await sleep(50);
  }
}
