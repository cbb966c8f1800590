// cursor: a text that is kept over restarts, such as how far the downlink has come.
// Path: store → [cursor] → uplink. Touches: one key of the store.

import type { Store } from "./store.ts";

/** The cursor under `key`; a write resolves when it is synced. */
export function cursorIn(store: Store, key: string) {
  return {
    async read(): Promise<string | undefined> {
      const value = await store.get(key);
      return value && new TextDecoder().decode(value);
    },
    async write(cursor: string): Promise<void> {
      const value = new TextEncoder().encode(cursor);
      await store.commit({ sync: true, prepare: () => [{ type: "put", key, value }] });
    },
  };
}
