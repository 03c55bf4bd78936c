import { describe, expect, test } from "vitest";
import { Secret } from "../values/secret.ts";
import { scramVerifier, verifierMatches } from "./scram-verifier.ts";

describe("a stored verifier", () => {
  test("is the one of RFC 5803 for this password and salt", () => {
    const stored =
      "SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$nQpbZ77WudtqufPwikHXGRt6g2QJ4zns8bZLw273DRM=:jn2amWP1q1h+jgjy0YTO14S6/F02SV7taipOeB7ef20=";
    const made = scramVerifier(new Secret("pencil"), Buffer.from("0123456789abcdef"));
    expect(made).toBe(stored);
  });

  test("belongs to its password alone", () => {
    const verifier = scramVerifier(new Secret("one"));
    expect(verifierMatches(verifier, new Secret("one"))).toBe(true);
    expect(verifierMatches(verifier, new Secret("two"))).toBe(false);
  });

  test("is new for every making", () => {
    expect(scramVerifier(new Secret("one"))).not.toBe(scramVerifier(new Secret("one")));
  });

  test("of another kind never matches", () => {
    for (const other of ["", "md5e8a48653851e28c69d0506508fb27fc5", "SCRAM-SHA-256$x:y$z:w"])
      expect(verifierMatches(other, new Secret("one"))).toBe(false);
  });
});
