import { createHash, createHmac } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { createServer, request, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import S3rver from "s3rver";

/** An S3 server of a test. */
export interface S3Server {
  readonly endpoint: string;
  readonly bucket: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** Requests that were answered with a signature's refusal, and writes that were refused because the object was there. */
  readonly refused: { signatures: number; conditions: number };
  /** Whether it keeps `If-None-Match`; some servers take the header and ignore it. */
  conditions: boolean;
  stop(): Promise<void>;
}

const accessKeyId = "S3RVER";
const secretAccessKey = "S3RVER";

/** Starts one with an empty bucket. The server itself takes any signature: one in front of it checks them. */
export async function startS3(dir: string): Promise<S3Server> {
  await mkdir(dir, { recursive: true });
  const bucket = "backups";
  const behind = new S3rver({
    address: "127.0.0.1",
    port: 0,
    silent: true,
    directory: dir,
    configureBuckets: [{ name: bucket }],
  });
  const { port } = await behind.run();
  const refused = { signatures: 0, conditions: 0 };
  const state = { conditions: true };
  const front = createServer((incoming, outgoing) => {
    if (!isSigned(incoming)) {
      refused.signatures++;
      refuse(outgoing, 403, "SignatureDoesNotMatch");
      return;
    }
    const conditional =
      state.conditions && incoming.method === "PUT" && incoming.headers["if-none-match"] === "*";
    if (!conditional) {
      pass(incoming, outgoing, port);
      return;
    }
    const headers = { ...incoming.headers, "content-length": "0" };
    delete headers["if-none-match"];
    request({ port, host: "127.0.0.1", method: "HEAD", path: incoming.url, headers }, (found) => {
      found.resume();
      if (found.statusCode !== 200) pass(incoming, outgoing, port);
      else {
        refused.conditions++;
        incoming.resume();
        refuse(outgoing, 412, "PreconditionFailed");
      }
    }).end();
  });
  await new Promise<void>((resolve) => front.listen(0, "127.0.0.1", resolve));
  return {
    endpoint: `http://127.0.0.1:${(front.address() as AddressInfo).port}`,
    bucket,
    accessKeyId,
    secretAccessKey,
    refused,
    get conditions() {
      return state.conditions;
    },
    set conditions(value) {
      state.conditions = value;
    },
    stop: async () => {
      front.closeAllConnections();
      await new Promise((resolve) => front.close(resolve));
      await behind.close();
    },
  };
}

function refuse(outgoing: ServerResponse, status: number, code: string): void {
  outgoing.writeHead(status, { "content-type": "application/xml" });
  outgoing.end(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>${code}</Message></Error>`);
}

function pass(incoming: IncomingMessage, outgoing: ServerResponse, port: number): void {
  const { method, url, headers } = incoming;
  const inner = request({ port, host: "127.0.0.1", method, path: url, headers }, (answer) => {
    outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
    answer.pipe(outgoing);
  });
  inner.on("error", () => outgoing.destroy());
  incoming.pipe(inner);
}

/** Signature version 4, written down from its public description. */
function isSigned({ method, url, headers }: IncomingMessage): boolean {
  const found =
    /Credential=([^/]+)\/(\d+)\/([^/]+)\/s3\/aws4_request, *SignedHeaders=([^,]+), *Signature=([0-9a-f]+)/.exec(
      headers.authorization ?? "",
    );
  const [, id, day = "", region = "", names = "", signature] = found ?? [];
  if (id !== accessKeyId) return false;
  const { pathname, searchParams } = new URL(url ?? "/", "http://x");
  const encode = (text: string): string =>
    encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
  const query = [...searchParams].map(([name, value]) => `${encode(name)}=${encode(value)}`).sort();
  const header = (name: string): string => String(headers[name] ?? "").trim();
  const canonical = [
    method,
    decodeURIComponent(pathname).split("/").map(encode).join("/"),
    query.join("&"),
    ...names.split(";").map((name) => `${name}:${header(name)}`),
    "",
    names,
    header("x-amz-content-sha256"),
  ].join("\n");
  const scope = `${day}/${region}/s3/aws4_request`;
  const text = [
    "AWS4-HMAC-SHA256",
    header("x-amz-date"),
    scope,
    createHash("sha256").update(canonical).digest("hex"),
  ];
  const key = [day, region, "s3", "aws4_request"].reduce<string | Buffer>(
    (secret, part) => createHmac("sha256", secret).update(part).digest(),
    `AWS4${secretAccessKey}`,
  );
  return createHmac("sha256", key).update(text.join("\n")).digest("hex") === signature;
}
