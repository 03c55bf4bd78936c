import { expect, test } from "vitest";
import { endpointUrls, tlsReader } from "./options.ts";

test("endpoints without a scheme get the one that fits", () => {
  expect(endpointUrls(["10.0.0.1:2379", "http://[::1]:2379/"], false)).toEqual([
    "http://10.0.0.1:2379",
    "http://[::1]:2379",
  ]);
  expect(endpointUrls(["etcd.example:2379"], true)).toEqual(["https://etcd.example:2379"]);
});

test("what is not an endpoint is refused, without showing a password", () => {
  for (const wrong of ["", "ftp://a:1", "http://a:1/v3", "http://a:99999"])
    expect(() => endpointUrls([wrong], false)).toThrow(expect.objectContaining({ code: "CONFIG_INVALID" }));
  expect(() => endpointUrls([], false)).toThrow(expect.objectContaining({ code: "CONFIG_INVALID" }));
  expect(() => endpointUrls(["http://user:secret@a:1"], false)).toThrow(
    expect.objectContaining({ detail: "http://***@a:1" }),
  );
});

test("without TLS there are no files to read; files that are missing are said at once", () => {
  expect(tlsReader(undefined)()).toBeUndefined();
  expect(() => tlsReader({ caFile: "/nonexistent/ca.crt" })).toThrow(
    expect.objectContaining({ code: "CONFIG_UNREADABLE" }),
  );
});
