// cursor: a text that is kept over restarts, such as how far the downlink has come.
// Path: store → [cursor] → uplink. Touches: one key of the store.

/** What a cursor needs of the store. */
export interface CursorStore {
  get(key: string): Promise<Uint8Array | undefined>;
  commit(write: {
    prepare(): readonly { type: "put"; key: string; value: Uint8Array }[];
    readonly sync: boolean;
  }): Promise<void>;
}

export interface Cursor {
  read(): Promise<string | undefined>;
  /** Resolves when it is synced. */
  write(cursor: string): Promise<void>;
}

/** The cursor under `key`. */
export function cursorIn(store: CursorStore, key: string): Cursor {
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
