// frame-invalid: the one failure that a decoder may answer with, whatever bytes it is given.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { SluiceError } from "#contract/errors";

/** Runs `decode`; lets a result and FRAME_INVALID with a message pass, and nothing else. */
export function assertOnlyFrameInvalid(decode: () => void): void {
  try {
    decode();
  } catch (fault) {
    if (!(fault instanceof SluiceError)) throw fault;
    assert.equal(fault.code, "FRAME_INVALID");
    assert.ok(fault.message.length > 0);
  }
}
