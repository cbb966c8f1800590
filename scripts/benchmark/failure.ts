// failure: what keeps a part of a benchmark from running, said in words.
// Path: used by all of benchmark. Touches: nothing.

/** The message says what is wrong; no stack trace would add to it. */
export class BenchFailure extends Error {}
