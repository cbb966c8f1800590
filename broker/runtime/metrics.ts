// metrics: counters and gauges in Prometheus' text format.
// Path: every folder that counts; read by status. Touches: nothing.

export type Labels = Readonly<Record<string, string>>;

/** One counter under labels that stay: `add` is no more than an addition. */
export class Tally {
  #count = 0;

  get count(): number {
    return this.#count;
  }

  add(by = 1): void {
    this.#count += by;
  }
}

interface Family {
  readonly help: string;
  readonly type: "counter" | "gauge";
  readonly tallies: Map<string, Tally>;
  readonly read: (() => Iterable<readonly [Labels, number]>) | undefined;
}

/** The metrics of one process. Names begin with `sluice_` and end in their unit or `_total`. */
export class Metrics {
  readonly #families = new Map<string, Family>();

  /** A number that only grows. The function returned adds `by` (default 1) under `labels`. */
  counter(name: string, help: string): (labels?: Labels, by?: number) => void {
    const family = this.#add(name, help, "counter");
    return (labels = {}, by = 1) => tallyIn(family, labels).add(by);
  }

  /** As counter, for what counts too often to name its labels each time; there from now on, as 0. */
  tally(name: string, help: string, labels: Labels = {}): Tally {
    return tallyIn(this.#add(name, help, "counter"), labels);
  }

  /** A number that is asked for when somebody looks. */
  gauge(name: string, help: string, read: () => number): void {
    this.gauges(name, help, () => [[{}, read()]]);
  }

  /** As gauge, with one value for each set of labels. */
  gauges(name: string, help: string, read: () => Iterable<readonly [Labels, number]>): void {
    this.#add(name, help, "gauge", read);
  }

  /** As gauges, of what only grows and is counted elsewhere. */
  counters(name: string, help: string, read: () => Iterable<readonly [Labels, number]>): void {
    this.#add(name, help, "counter", read);
  }

  /** The value of a counter, summed over its labels; 0 when it has not counted yet. */
  total(name: string): number {
    const tallies = this.#families.get(name)?.tallies.values() ?? [];
    return [...tallies].reduce((sum, { count }) => sum + count, 0);
  }

  /** All of it in Prometheus' text format 0.0.4. */
  text(): string {
    let text = "";
    for (const [name, family] of this.#families) {
      text += `# HELP ${name} ${family.help}\n# TYPE ${name} ${family.type}\n`;
      for (const [labels, value] of samples(family)) text += `${name}${labels} ${number(value)}\n`;
    }
    return text;
  }

  #add(name: string, help: string, type: Family["type"], read?: Family["read"]): Family {
    const known = this.#families.get(name);
    if (known) return known;
    const family: Family = { help, type, tallies: new Map(), read };
    this.#families.set(name, family);
    return family;
  }
}

function samples(family: Family): Iterable<readonly [string, number]> {
  if (family.read) return [...family.read()].map(([labels, value]) => [labelText(labels), value]);
  if (family.tallies.size === 0) return [["", 0]];
  return [...family.tallies].map(([labels, { count }]) => [labels, count]);
}

function tallyIn({ tallies }: Family, labels: Labels): Tally {
  const key = labelText(labels);
  const known = tallies.get(key);
  if (known) return known;
  const tally = new Tally();
  tallies.set(key, tally);
  return tally;
}

function number(value: number): string {
  return String(value).replace("Infinity", "Inf").replace(/^Inf/, "+Inf");
}

function labelText(labels: Labels): string {
  const pairs = Object.entries(labels).map(
    ([key, value]) =>
      `${key}="${value.replace(/[\\"\n]/g, (c) => (c === "\n" ? "\\n" : `\\${c}`))}"`,
  );
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}
