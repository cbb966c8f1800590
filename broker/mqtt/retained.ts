// retained: the newest retained message of each topic, found by filter without looking at the others.
// Path: routing → [retained] → session. Touches: nothing.

import type { Message } from "#contract/message";

/** One level of topics. */
interface Node {
  readonly children: Map<string, Node>;
  message: Message | undefined;
}

/** What one entry, and one level of its topic, take beside payload and text, about. */
const ENTRY_BYTES = 200;
const LEVEL_BYTES = 200;

/** All retained messages of this broker, in memory. */
export class Retained {
  readonly #root: Node = { children: new Map(), message: undefined };
  /** Topics that were set while what is stored is read: that is newer. */
  readonly #touched = new Set<Set<string>>();
  #count = 0;
  #bytes = 0;

  get count(): number {
    return this.#count;
  }

  /** Payloads, topics and properties, and what keeping them takes. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * How many bytes and messages this one would add; negative where it replaces a larger one. The
   * broker's own statistics do not count.
   */
  growth(message: Message): { count: number; bytes: number } {
    if (message.topic.startsWith("$SYS/")) return { count: 0, bytes: 0 };
    const before = this.#find(message.topic);
    const after = message.payload.length > 0 ? message : undefined;
    return {
      count: Number(after !== undefined) - Number(before !== undefined),
      bytes: (after ? bytesOf(after) : 0) - (before ? bytesOf(before) : 0),
    };
  }

  /** Keeps the message instead of the topic's last one; without a payload, none [MQTT-3.3.1-10]. */
  set(message: Message): void {
    for (const touched of this.#touched) touched.add(message.topic);
    const { count, bytes } = this.growth(message);
    this.#count += count;
    this.#bytes += bytes;
    const levels = message.topic.split("/");
    if (message.payload.length === 0) {
      removeFrom(this.#root, levels, 0);
      return;
    }
    let node = this.#root;
    for (const level of levels) {
      let child = node.children.get(level);
      if (!child) {
        child = { children: new Map(), message: undefined };
        node.children.set(level, child);
      }
      node = child;
    }
    node.message = owned(message);
  }

  /** Those that the filter selects, by topic level after topic level, and not expired at `nowMs`. */
  match(filter: string, nowMs: number): Message[] {
    const found: Message[] = [];
    collect(this.#root, filter.split("/"), 0, found);
    return found.filter(({ expiresAtMs }) => expiresAtMs === undefined || expiresAtMs > nowMs);
  }

  /** Becomes what is stored, but for the broker's own $SYS topics and what is set meanwhile. */
  async readAnew(stored: AsyncIterable<Message>): Promise<void> {
    const touched = new Set<string>();
    const fresh: Message[] = [];
    this.#touched.add(touched);
    try {
      for await (const message of stored) fresh.push(message);
    } finally {
      this.#touched.delete(touched);
    }
    const topics = new Set(fresh.map(({ topic }) => topic));
    for (const { topic } of this.#all()) {
      const isOver = !topics.has(topic) && !touched.has(topic) && !topic.startsWith("$SYS/");
      if (isOver) this.#clear(topic);
    }
    for (const message of fresh) if (!touched.has(message.topic)) this.set(message);
  }

  /** Forgets those that expired before `nowMs`. */
  dropExpired(nowMs: number): void {
    for (const { topic, expiresAtMs } of this.#all()) {
      if (expiresAtMs !== undefined && expiresAtMs <= nowMs) this.#clear(topic);
    }
  }

  #all(): Message[] {
    const all: Message[] = [];
    collectAll(this.#root, false, all);
    return all;
  }

  #clear(topic: string): void {
    this.set({ topic, payload: new Uint8Array(), qos: 0, retain: true, takenAtMs: 0 });
  }

  #find(topic: string): Message | undefined {
    let node: Node | undefined = this.#root;
    for (const level of topic.split("/")) {
      node = node.children.get(level);
      if (!node) return undefined;
    }
    return node.message;
  }
}

function bytesOf({ topic, payload, properties }: Message): number {
  // Levels that topics share are counted for each of them: the limit is on the safe side.
  const levels = topic.split("/").length * LEVEL_BYTES;
  return ENTRY_BYTES + levels + topic.length + payload.length + (properties?.length ?? 0);
}

/** The message with bytes of its own: a view would keep all that came in with it. */
function owned(message: Message): Message {
  const payload = new Uint8Array(message.payload);
  return message.properties
    ? { ...message, payload, properties: new Uint8Array(message.properties) }
    : { ...message, payload };
}

function collect(node: Node, levels: readonly string[], at: number, found: Message[]): void {
  const level = levels[at];
  if (level === undefined) {
    if (node.message) found.push(node.message);
  } else if (level === "#") {
    collectAll(node, at === 0, found);
  } else if (level === "+") {
    for (const [name, child] of node.children) {
      if (at > 0 || !name.startsWith("$")) collect(child, levels, at + 1, found);
    }
  } else {
    const child = node.children.get(level);
    if (child) collect(child, levels, at + 1, found);
  }
}

/** `a/#` selects `a` itself, too (§4.7.1.2); at the front it selects no $-topics [MQTT-4.7.2-1]. */
function collectAll(node: Node, isFront: boolean, found: Message[]): void {
  if (node.message) found.push(node.message);
  for (const [name, child] of node.children) {
    if (!isFront || !name.startsWith("$")) collectAll(child, false, found);
  }
}

/** Removes the topic's message, and the nodes that hold nothing any more. */
function removeFrom(node: Node, levels: readonly string[], at: number): boolean {
  const level = levels[at];
  if (level === undefined) {
    node.message = undefined;
  } else {
    const child = node.children.get(level);
    if (child && removeFrom(child, levels, at + 1)) node.children.delete(level);
  }
  return node.message === undefined && node.children.size === 0;
}
