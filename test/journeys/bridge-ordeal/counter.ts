// counter: how often each thing came, by its number.
// Path: devices, witness → [counter]. Touches: nothing.

export class Counter {
  /** In the order of their first arrival. */
  readonly #counts = new Map<number, number>();

  count(number: number | string): void {
    const key = Number(number);
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
  }

  has(number: number): boolean {
    return this.#counts.has(number);
  }

  get size(): number {
    return this.#counts.size;
  }

  /** In the order of their first arrival. */
  get firsts(): number[] {
    return [...this.#counts.keys()];
  }

  get repeated(): number[] {
    return [...this.#counts].flatMap(([number, count]) => (count > 1 ? [number] : []));
  }

  get latest(): number {
    return this.firsts.reduce((most, number) => Math.max(most, number), 0);
  }
}
