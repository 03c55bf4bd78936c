import { describe, expect, it } from "vitest";
import { Secret } from "../values/secret.ts";
import { isMd5Stored, md5Answer, md5Matches, md5Stored } from "./md5.ts";

describe("md5 passwords", () => {
  const stored = md5Stored("alice", new Secret("wonderland"));
  const salt = Buffer.from([1, 2, 0xfe, 0xff]);

  // What PostgreSQL 15 stores after: set password_encryption = md5; create role alice password 'wonderland'
  it("are stored as PostgreSQL stores them", () =>
    expect(stored).toBe("md56b765adf84f3c4341e8aab77ceda3bf1"));

  it("are proven by an answer to this salt only", () => {
    const answer = md5Answer(stored, salt);
    expect(md5Matches(stored, salt, answer)).toBe(true);
    expect(md5Matches(stored, Buffer.from([1, 2, 3, 4]), answer)).toBe(false);
    expect(md5Matches(md5Stored("alice", new Secret("Wonderland")), salt, answer)).toBe(false);
    expect(md5Matches(stored, salt, answer.slice(1))).toBe(false);
    expect(md5Matches(stored, salt, "")).toBe(false);
  });

  it("never match what is not an md5 hash", () => {
    expect(isMd5Stored("SCRAM-SHA-256$4096:a$b:c")).toBe(false);
    expect(md5Matches("", salt, md5Answer("", salt))).toBe(false);
  });
});
