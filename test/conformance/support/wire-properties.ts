// wire-properties: MQTT 5.0 properties (§2.2.2) as plain objects, to bytes and back.
// Path: wire-build, wire-read → [wire-properties]. Touches: nothing.

export type Bytes = Uint8Array;
/** Bytes stand for themselves, so that a string can be ill-formed. */
export type Text = string | Bytes;
export type Pair = readonly [Text, Text];

type Value = number | Text | Pair;

/**
 * By the specification's names. What is given as an array is written once for each element, also
 * where the specification allows one alone; `userProperty` and `subscriptionIdentifier` always are
 * arrays when they are read.
 */
export type Properties = Partial<Record<PropertyName, Value | readonly Value[]>>;
export type PropertyName = keyof typeof IDS;

const IDS = {
  payloadFormatIndicator: 0x01,
  messageExpiryInterval: 0x02,
  contentType: 0x03,
  responseTopic: 0x08,
  correlationData: 0x09,
  subscriptionIdentifier: 0x0b,
  sessionExpiryInterval: 0x11,
  assignedClientIdentifier: 0x12,
  serverKeepAlive: 0x13,
  authenticationMethod: 0x15,
  authenticationData: 0x16,
  requestProblemInformation: 0x17,
  willDelayInterval: 0x18,
  requestResponseInformation: 0x19,
  responseInformation: 0x1a,
  serverReference: 0x1c,
  reasonString: 0x1f,
  receiveMaximum: 0x21,
  topicAliasMaximum: 0x22,
  topicAlias: 0x23,
  maximumQos: 0x24,
  retainAvailable: 0x25,
  userProperty: 0x26,
  maximumPacketSize: 0x27,
  wildcardSubscriptionAvailable: 0x28,
  subscriptionIdentifierAvailable: 0x29,
  sharedSubscriptionAvailable: 0x2a,
} as const;

/** Every property that there is. */
export const PROPERTY_NAMES = Object.keys(IDS) as PropertyName[];

type Kind = "byte" | "two" | "four" | "variable" | "text" | "binary" | "pair";

const KINDS: Readonly<Record<Kind, readonly number[]>> = {
  byte: [0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2a],
  two: [0x13, 0x21, 0x22, 0x23],
  four: [0x02, 0x11, 0x18, 0x27],
  variable: [0x0b],
  text: [0x03, 0x08, 0x12, 0x15, 0x1a, 0x1c, 0x1f],
  binary: [0x09, 0x16],
  pair: [0x26],
};

const SEVERAL: readonly PropertyName[] = ["userProperty", "subscriptionIdentifier"];

function kindOf(id: number): Kind | undefined {
  return (Object.keys(KINDS) as Kind[]).find((kind) => KINDS[kind].includes(id));
}

/** A number of `bytes` bytes, big end first. */
export function integer(value: number, bytes: 1 | 2 | 4): Buffer {
  const all = Buffer.alloc(bytes);
  all.writeUIntBE(value, 0, bytes);
  return all;
}

/** A Variable Byte Integer (§1.5.5); Remaining Length is one. */
export function variable(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  do {
    const more = rest > 127 ? 0x80 : 0;
    bytes.push((rest % 128) | more);
    rest = Math.floor(rest / 128);
  } while (rest > 0);
  return Buffer.from(bytes);
}

/** Text or binary data behind its two-byte length. */
export function prefixed(text: Text): Buffer {
  const bytes = Buffer.from(text as string);
  return Buffer.concat([integer(bytes.length, 2), bytes]);
}

/** The bytes of the properties, their length in front; bytes are taken as they are. */
export function encodeProperties(properties: Properties | Bytes): Buffer {
  const body =
    properties instanceof Uint8Array
      ? properties
      : Buffer.concat(
          Object.entries(properties).flatMap(([name, value]) => {
            const id = IDS[name as PropertyName];
            return valuesOf(id, value).map((one) =>
              Buffer.concat([Buffer.from([id]), encode(id, one)]),
            );
          }),
        );
  return Buffer.concat([variable(body.length), body]);
}

function valuesOf(id: number, value: Value | readonly Value[]): readonly Value[] {
  if (!Array.isArray(value)) return [value as Value];
  // One pair is an array too.
  return kindOf(id) === "pair" && !Array.isArray(value[0]) ? [value as unknown as Pair] : value;
}

function encode(id: number, value: Value): Buffer {
  switch (kindOf(id)) {
    case "byte":
      return integer(Number(value), 1);
    case "two":
      return integer(Number(value), 2);
    case "four":
      return integer(Number(value), 4);
    case "variable":
      return variable(Number(value));
    case "pair":
      return Buffer.concat((value as Pair).map(prefixed));
    default:
      return prefixed(value as Text);
  }
}

/** Reads from a packet's body; throws on anything that is not as the specification says. */
export class Reader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  take(length: number): Buffer {
    if (length > this.left) throw new Error(`${length} bytes are promised, ${this.left} are there`);
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  integer(bytes: 1 | 2 | 4): number {
    return this.take(bytes).readUIntBE(0, bytes);
  }

  variable(): number {
    let value = 0;
    for (let factor = 1; factor <= 128 ** 3; factor *= 128) {
      const byte = this.integer(1);
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
    throw new Error("a variable byte integer of more than four bytes");
  }

  binary(): Buffer {
    return this.take(this.integer(2));
  }

  text(): string {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(this.binary());
    if (text.includes("\0")) throw new Error("U+0000 in a string [MQTT-1.5.3-2]");
    return text;
  }

  properties(): Properties {
    const inner = new Reader(this.take(this.variable()));
    const properties: Properties = {};
    while (inner.left > 0) {
      const id = inner.variable();
      const name = PROPERTY_NAMES.find((one) => IDS[one] === id);
      if (!name) throw new Error(`no property has the identifier ${id}`);
      const value = inner.#value(id);
      if (SEVERAL.includes(name)) {
        properties[name] = [...((properties[name] as Value[] | undefined) ?? []), value];
      } else if (name in properties) {
        throw new Error(`${name} comes twice`);
      } else {
        properties[name] = value;
      }
    }
    return properties;
  }

  #value(id: number): Value {
    switch (kindOf(id)) {
      case "byte":
        return this.integer(1);
      case "two":
        return this.integer(2);
      case "four":
        return this.integer(4);
      case "variable":
        return this.variable();
      case "binary":
        return this.binary();
      case "pair":
        return [this.text(), this.text()];
      default:
        return this.text();
    }
  }
}
