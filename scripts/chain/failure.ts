// failure: what keeps a chain from running and its user can mend.
// Path: used by all of chain. Touches: nothing.

/** The message says what is wrong and what to do; no stack trace would add to it. */
export class ChainFailure extends Error {}
