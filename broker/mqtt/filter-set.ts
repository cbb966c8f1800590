// filter-set: topic filters prepared for asking often whether any of them selects a topic.
// Path: rights. Touches: nothing.

import { filterMatches } from "#contract/topics";

/** Well-formed filters; most topics are answered for without taking them apart. */
export class FilterSet {
  readonly filters: readonly string[];
  readonly #exact: ReadonlySet<string>;
  /** Of `a/b/#`: `a/b/`. */
  readonly #prefixes: readonly string[];
  readonly #others: readonly string[];

  constructor(filters: readonly string[]) {
    this.filters = filters;
    const trees = filters.filter((filter) => /^[^+#]+\/#$/.test(filter));
    const exact = filters.filter((filter) => !/[+#]/.test(filter));
    this.#prefixes = trees.map((filter) => filter.slice(0, -1));
    // `a/b/#` selects `a/b` too (MQTT 5.0 §4.7.1.2).
    this.#exact = new Set([...exact, ...trees.map((filter) => filter.slice(0, -2))]);
    this.#others = filters.filter((filter) => !trees.includes(filter) && !exact.includes(filter));
  }

  selects(topic: string): boolean {
    if (this.#exact.has(topic)) return true;
    for (const prefix of this.#prefixes) if (topic.startsWith(prefix)) return true;
    for (const filter of this.#others) if (filterMatches(filter, topic)) return true;
    return false;
  }
}
