// topics: what the topic ids of one client stand for: normal, predefined and short ones.
// Path: client → [topics]. Touches: nothing.

import { assertTopicFilter, assertTopicName } from "#contract/topics";
import { type TopicChoice, type TopicReference, textOf } from "./packets.ts";

/** 0x0000 and 0xFFFF are reserved (§5.3.11). */
const TOPIC_ID_MAX = 0xfffe;

interface Entry {
  readonly id: number;
  /** The client asked for it, and may publish by it at any time. */
  pinned: boolean;
  /** The client knows it on this connection: by SUBACK, REGACK or REGISTER. */
  told: boolean;
}

export class Topics {
  readonly #predefined: ReadonlyMap<number, string>;
  readonly #predefinedIds: ReadonlyMap<string, number>;
  readonly #countMax: number;
  /** By name, the one used least recently first. */
  readonly #entries = new Map<string, Entry>();
  readonly #names = new Map<number, string>();
  /** Predefined ids and short names that the client said it does not know. */
  readonly #refused = new Set<string>();
  /** By name, the predefined ids and short names by which the client subscribed last. */
  readonly #chosen = new Map<string, TopicReference>();
  /** What a client asks for counts up, what it has to be told counts down (see #freeId). */
  #lastAsked = 0;
  #lastTold = TOPIC_ID_MAX + 1;

  constructor(predefined: ReadonlyMap<number, string>, countMax: number) {
    this.#predefined = predefined;
    this.#predefinedIds = new Map([...predefined].map(([id, name]) => [name, id]));
    this.#countMax = countMax;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** The id that the client asked for (§6.5); undefined when there is no room for another. */
  register(name: string): number | undefined {
    const entry = this.#entryOf(name, "asked");
    if (!entry) return undefined;
    entry.pinned = true;
    entry.told = true;
    return entry.id;
  }

  /** The id for a topic that the client has to be told of (§6.10); undefined without room. */
  assign(name: string): number | undefined {
    return this.#entryOf(name, "told")?.id;
  }

  /** The client took the id. */
  tell(name: string): void {
    const entry = this.#entries.get(name);
    if (entry) entry.told = true;
  }

  /** The client does not know what it was sent. */
  forget(name: string, { kind }: TopicReference): void {
    const entry = this.#entries.get(name);
    if (kind !== "normal") this.#remember(name);
    else if (entry) entry.told = false;
  }

  /** The same, where nothing says of which kind the id is: all that it can be. */
  forgetId(id: number): void {
    for (const kind of ["normal", "predefined", "short"] as const) {
      const name = this.nameOf({ kind, id });
      if (name !== undefined) this.forget(name, { kind, id });
    }
  }

  /** §6.9: messages come by the id that SUBACK told last, whatever other ids the topic has. */
  choose(name: string, topic: TopicChoice): void {
    this.#refused.delete(name);
    this.#chosen.delete(name);
    if (topic.kind === "name") return;
    if (this.#chosen.size >= this.#countMax) this.#chosen.clear();
    this.#chosen.set(name, topic);
  }

  /** A client that connects again may have lost what it was told (§6.10). */
  untell(): void {
    for (const entry of this.#entries.values()) entry.told = false;
    this.#refused.clear();
  }

  /** A clean session begins without any. */
  clear(): void {
    this.#entries.clear();
    this.#names.clear();
    this.#refused.clear();
    this.#chosen.clear();
  }

  nameOf({ kind, id }: TopicReference): string | undefined {
    if (kind === "predefined") return this.#predefined.get(id);
    if (kind === "short") return shortName(id);
    return this.#names.get(id);
  }

  /** How the client is to be told of a topic; undefined when it needs a REGISTER first. */
  referenceTo(name: string): TopicReference | undefined {
    const entry = this.#entries.get(name);
    const isRefused = this.#refused.has(name);
    const chosen = this.#chosen.get(name);
    if (chosen && !isRefused) return chosen;
    if (entry?.told) return { kind: "normal", id: entry.id };
    if (isRefused) return undefined;
    const predefined = this.#predefinedIds.get(name);
    if (predefined !== undefined) return { kind: "predefined", id: predefined };
    const short = Buffer.from(name);
    return short.length === 2 ? { kind: "short", id: short.readUInt16BE() } : undefined;
  }

  #entryOf(name: string, why: "asked" | "told"): Entry | undefined {
    const known = this.#entries.get(name);
    if (known) {
      this.#entries.delete(name);
      this.#entries.set(name, known);
      return known;
    }
    if (this.#entries.size >= this.#countMax && !this.#makeRoom()) return undefined;
    const entry = { id: this.#freeId(why), pinned: false, told: false };
    this.#entries.set(name, entry);
    this.#names.set(entry.id, name);
    return entry;
  }

  /** Wildcards bring topics without end; those that the client asked for itself stay. */
  #makeRoom(): boolean {
    for (const [name, { id, pinned }] of this.#entries) {
      if (pinned) continue;
      this.#entries.delete(name);
      this.#names.delete(id);
      return true;
    }
    return false;
  }

  #remember(name: string): void {
    if (this.#refused.size >= this.#countMax) this.#refused.clear();
    this.#refused.add(name);
  }

  /**
   * After a restart of this process a client may still publish by an id of before. That must be
   * unknown then (§6.6), not the id of a topic that a wildcard brought first.
   */
  #freeId(why: "asked" | "told"): number {
    let id: number;
    do {
      if (why === "asked") id = this.#lastAsked = (this.#lastAsked % TOPIC_ID_MAX) + 1;
      else id = this.#lastTold = this.#lastTold > 1 ? this.#lastTold - 1 : TOPIC_ID_MAX;
    } while (this.#names.has(id));
    return id;
  }
}

/** The topic of two octets (§6.7); undefined when it is no text. */
function shortName(id: number): string | undefined {
  return textOf(Uint8Array.of(id >> 8, id & 0xff));
}

export function isTopicName(name: string): boolean {
  return holds(() => assertTopicName(name));
}

export function isTopicFilter(filter: string): boolean {
  return holds(() => assertTopicFilter(filter));
}

export function hasWildcard(filter: string): boolean {
  return /[+#]/.test(filter);
}

function holds(assertion: () => void): boolean {
  try {
    assertion();
    return true;
  } catch {
    return false;
  }
}
