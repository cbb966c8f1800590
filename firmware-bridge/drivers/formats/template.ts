// template: text with places, as {name}, that values are put into.
// Path: content, commands → [template]. Touches: nothing.

import { channelOf } from "../../driver.ts";

/** The value for a place; undefined where there is none. */
export type Lookup = (name: string) => string | Uint8Array | undefined;

// What stands in braces and could be a key of a JSON object's text is no place: {"value":{value}}
// has one.
const PLACE = /\{([^{}"':,]+)\}/;

export class Template {
  /** Text and names of places, by turns. */
  readonly #parts: readonly string[];

  constructor(text: string) {
    this.#parts = text.split(PLACE);
  }

  /** The names of its places. */
  get names(): string[] {
    return this.#parts.filter((_, index) => index % 2 === 1);
  }

  /** What stands between its places. */
  get text(): string {
    return this.#parts.filter((_, index) => index % 2 === 0).join("");
  }

  /** The bytes with all places filled; undefined where a value is missing. */
  fill(lookUp: Lookup): Buffer | undefined {
    const filled: Buffer[] = [];
    for (const [index, part] of this.#parts.entries()) {
      const value = index % 2 === 0 ? part : lookUp(part);
      if (value === undefined) return undefined;
      filled.push(Buffer.from(value as string));
    }
    return Buffer.concat(filled);
  }
}

/** A channel of one or more levels: no value adds a level, or makes one of the device's own topics. */
export class ChannelTemplate {
  readonly #levels: readonly Template[];

  constructor(text: string) {
    this.#levels = text.split("/").map((level) => new Template(level));
  }

  get names(): string[] {
    return this.#levels.flatMap(({ names }) => names);
  }

  /** The channel; undefined where a value is missing, or a level would be empty or too long. */
  fill(lookUp: Lookup): string | undefined {
    const levels: string[] = [];
    for (const template of this.#levels) {
      const name = template.fill(lookUp);
      const level = name && channelOf(name.toString());
      if (level === undefined) return undefined;
      levels.push(level);
    }
    return levels.join("/");
  }
}
