// nodes: which nodes there are, what they said of themselves, and which ids are taken.
// Path: network → [nodes] → memory. Touches: nothing.

import * as v from "valibot";

const NODE_ID_MIN = 1;
const NODE_ID_MAX = 254;
const TEXT_CHARACTERS_MAX = 64;

const Byte = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(255));
const Text = v.optional(v.pipe(v.string(), v.maxLength(TEXT_CHARACTERS_MAX)));

const OneNode = v.object({
  id: Byte,
  sketchName: Text,
  sketchVersion: Text,
  /** Of the MySensors library, as it presented itself. */
  protocol: Text,
  children: v.array(v.object({ id: Byte, sensor: Byte, description: Text })),
});
const Remembered = v.object({ nodes: v.array(OneNode) });

/** What is known of one node. */
export type NodeRecord = v.InferOutput<typeof OneNode>;
type NodeText = "sketchName" | "sketchVersion" | "protocol";

export class Nodes {
  readonly #records = new Map<number, NodeRecord>();
  /** Taken by settings, or heard of nodes that never presented themselves. */
  readonly #taken: Set<number>;
  /** Something has changed that `remembered` would have to be written for. */
  isChanged = false;

  constructor(taken: Iterable<number>) {
    this.#taken = new Set(taken);
  }

  /** Takes what `remembered` once gave; false when it is no such thing. */
  recall(value: unknown): boolean {
    const { success, output } = v.safeParse(Remembered, value);
    if (!success) return false;
    for (const record of output.nodes) this.#records.set(record.id, record);
    return true;
  }

  /** All of it as a JSON value. */
  remembered(): unknown {
    return { nodes: [...this.#records.values()] };
  }

  get ids(): number[] {
    return [...this.#records.keys()];
  }

  record(id: number): Readonly<NodeRecord> | undefined {
    return this.#records.get(id);
  }

  /** A node speaks that has this id: nobody else may get it. */
  take(id: number): void {
    this.#taken.add(id);
  }

  /** The lowest id that nobody has, from now on taken; undefined when there is none. */
  giveId(): number | undefined {
    for (let id = NODE_ID_MIN; id <= NODE_ID_MAX; id += 1) {
      if (this.#records.has(id) || this.#taken.has(id)) continue;
      this.#recordOf(id);
      return id;
    }
    return undefined;
  }

  note(id: number, key: NodeText, text: string): void {
    const record = this.#recordOf(id);
    const cut = text.slice(0, TEXT_CHARACTERS_MAX);
    if (record[key] === cut) return;
    record[key] = cut;
    this.isChanged = true;
  }

  noteChild(id: number, child: number, sensor: number, text: string): void {
    const { children } = this.#recordOf(id);
    const description = text.slice(0, TEXT_CHARACTERS_MAX);
    const at = children.findIndex((it) => it.id === child);
    const known = children[at];
    if (known?.sensor === sensor && known.description === description) return;
    children.splice(at < 0 ? children.length : at, 1, { id: child, sensor, description });
    children.sort((a, b) => a.id - b.id);
    this.isChanged = true;
  }

  #recordOf(id: number): NodeRecord {
    const known = this.#records.get(id);
    if (known) return known;
    const record: NodeRecord = { id, children: [] };
    this.#records.set(id, record);
    this.isChanged = true;
    return record;
  }
}
