// broken-entry: how an entry that cannot be read is told.
// Path: sessions, queue → [broken entry]. Touches: nothing.

import { reasonOf, SluiceError } from "#contract/errors";

/** Keys end with names of up to 64 KB, which no message should. */
const KEY_CHARACTERS_MAX = 120;

/** What `decode` returns. @throws SluiceError STORE_FAILED that names the key, if it throws. */
export function storedAs<T>(key: string, what: string, decode: () => T): T {
  try {
    return decode();
  } catch (cause) {
    const shown = JSON.stringify(key.slice(0, KEY_CHARACTERS_MAX));
    const message = `what is stored under ${shown} is no ${what}: ${reasonOf(cause)}`;
    throw new SluiceError("STORE_FAILED", message, { cause });
  }
}
