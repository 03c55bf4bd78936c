import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DirectoryStore } from "../../src/backup/repository/directory-store.ts";
import type { ObjectStore } from "../../src/backup/repository/object-store.ts";
import { createRepository, type StoredRepository } from "../../src/backup/repository/open.ts";
import { systemClock } from "../../src/system/clock.ts";
import { systemTimers } from "../../src/system/timers.ts";

/** A repository in a directory of a test, and how to make its store fail. */
export interface TestRepository {
  readonly dir: string;
  readonly repository: StoredRepository;
  /** Thrown by every call of the store while it is set. */
  broken: Error | null;
  remove(): void;
}

/** Makes a new, empty repository. */
export async function testRepository(): Promise<TestRepository> {
  const dir = mkdtempSync(join(tmpdir(), "pgherd-repository-"));
  const state: { broken: Error | null } = { broken: null };
  const store = breakable(new DirectoryStore(dir), state);
  const repository = await createRepository(store, { key: null, clock: systemClock, timers: systemTimers });
  return {
    dir,
    repository,
    get broken() {
      return state.broken;
    },
    set broken(error) {
      state.broken = error;
    },
    remove: () => rmSync(dir, { recursive: true, force: true }),
  };
}

function breakable(store: ObjectStore, state: { broken: Error | null }): ObjectStore {
  const check = (): void => {
    if (state.broken !== null) throw state.broken;
  };
  return {
    description: store.description,
    put: async (...args) => (check(), store.put(...args)),
    get: async (...args) => (check(), store.get(...args)),
    getRange: async (...args) => (check(), store.getRange(...args)),
    list: (prefix) => (check(), store.list(prefix)),
    stat: async (key) => (check(), store.stat(key)),
    delete: async (key) => (check(), store.delete(key)),
    close: () => store.close(),
  };
}
