import { MalformedMessage } from "../../src/pgwire/malformed.ts";
import { ScramError } from "../../src/pgwire/scram.ts";
import { Fault } from "../../src/values/fault.ts";
import { Rng } from "../simulation/rng.ts";

/** Something that reads what strangers send. */
export interface Target {
  readonly name: string;
  /** An input of this target. */
  make(rng: Rng): Buffer;
  /** Reads it and checks the result; throws what is no typed error when something is wrong. */
  run(input: Buffer, rng: Rng): void;
}

/** What a run found of one target. */
export interface Tally {
  readonly target: string;
  inputs: number;
  /** Refused with a typed error. */
  refused: number;
  slowestMs: number;
  slowest: number;
}

export class FuzzFailure extends Error {}

/**
 * Runs input number 0 to `count` - 1, shared evenly among the targets. The same seed gives the same inputs.
 * @throws {FuzzFailure} the first input that breaks anything, with all it takes to run it again
 */
export function fuzz(targets: readonly Target[], seed: number, count: number): Tally[] {
  const tallies = targets.map((each) => ({
    target: each.name,
    inputs: 0,
    refused: 0,
    slowestMs: 0,
    slowest: 0,
  }));
  for (let number = 0; number < count; number++) {
    const target = targets[number % targets.length];
    const tally = tallies[number % targets.length];
    if (target === undefined || tally === undefined) break;
    const began = performance.now();
    if (!accepts(target, seed, number)) tally.refused++;
    const took = performance.now() - began;
    tally.inputs++;
    if (took > tally.slowestMs) Object.assign(tally, { slowestMs: took, slowest: number });
  }
  return tallies;
}

/** @returns false = refused with a typed error */
function accepts(target: Target, seed: number, number: number): boolean {
  const rng = new Rng(seed, `${target.name} ${number}`);
  const input = target.make(rng);
  const before = Buffer.from(input);
  try {
    target.run(input, rng);
    return true;
  } catch (error) {
    if (error instanceof MalformedMessage || error instanceof ScramError) return false;
    if (error instanceof Fault && error.code === "BACKUP_STREAM_INVALID") return false;
    const why = error instanceof Error ? (error.stack ?? error.message) : String(error);
    const shown = before.toString("hex", 0, 2_000);
    throw new FuzzFailure(`${target.name}, seed ${seed}, input ${number}: ${shown}\n${why}`);
  }
}
