import { describe, expect, it } from "vitest";
import { isMd5Stored, md5Answer, md5Matches } from "./md5.ts";

describe("md5 passwords", () => {
  // What PostgreSQL 15 stores after: set password_encryption = md5; create role alice password 'wonderland'
  const stored = "md56b765adf84f3c4341e8aab77ceda3bf1";
  const salt = Buffer.from([1, 2, 0xfe, 0xff]);

  it("are proven by an answer to this salt only", () => {
    const answer = md5Answer(stored, salt);
    expect(md5Matches(stored, salt, answer)).toBe(true);
    expect(md5Matches(stored, Buffer.from([1, 2, 3, 4]), answer)).toBe(false);
    expect(md5Matches(`md5${"0".repeat(32)}`, salt, answer)).toBe(false);
    expect(md5Matches(stored, salt, answer.slice(1))).toBe(false);
    expect(md5Matches(stored, salt, "")).toBe(false);
  });

  it("never match what is not an md5 hash", () => {
    expect(isMd5Stored("SCRAM-SHA-256$4096:a$b:c")).toBe(false);
    expect(md5Matches("", salt, md5Answer("", salt))).toBe(false);
  });
});
