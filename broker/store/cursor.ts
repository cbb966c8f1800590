// cursor: a text that is kept over restarts, such as how far the downlink has come.
// Path: store → [cursor] → uplink. Touches: one key of the store.

import type { Write } from "./group-commit.ts";

/** What a cursor needs of the store. */
export interface CursorStore {
  get(key: string): Promise<Uint8Array | undefined>;
}

export interface Cursor {
  read(): Promise<string | undefined>;
  /** The write that moves it, to be committed along with what it covers. */
  write(cursor: string): Write;
}

/** The cursor under `key`. */
export function cursorIn(store: CursorStore, key: string): Cursor {
  return {
    async read(): Promise<string | undefined> {
      const value = await store.get(key);
      return value && new TextDecoder().decode(value);
    },
    write(cursor: string): Write {
      const value = new TextEncoder().encode(cursor);
      return { sync: true, prepare: () => [{ type: "put", key, value }] };
    },
  };
}
