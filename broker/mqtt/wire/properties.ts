// properties: MQTT 5.0's properties (§2.2.2): which stand where, and how they are read.
// Path: decode → [properties] → cursor. Touches: nothing.

import type { Cursor, Span } from "./cursor.ts";
import { REASON } from "./reason-codes.ts";
import { holdsWildcard } from "./text.ts";
import { malformed, protocolError, WireError } from "./wire-error.ts";

/** Identifiers of the properties that Sluice reads or writes (table 2-4). */
export const PROPERTY = {
  payloadFormat: 0x01,
  messageExpiry: 0x02,
  contentType: 0x03,
  responseTopic: 0x08,
  correlationData: 0x09,
  subscriptionId: 0x0b,
  sessionExpiry: 0x11,
  assignedClientId: 0x12,
  serverKeepAlive: 0x13,
  authenticationMethod: 0x15,
  authenticationData: 0x16,
  requestProblemInformation: 0x17,
  willDelay: 0x18,
  requestResponseInformation: 0x19,
  responseInformation: 0x1a,
  serverReference: 0x1c,
  reasonString: 0x1f,
  receiveMaximum: 0x21,
  topicAliasMaximum: 0x22,
  topicAlias: 0x23,
  userProperty: 0x26,
  maximumPacketSize: 0x27,
} as const;

type NumberKind = "flag" | "uint16" | "uint32" | "variable";
type Kind = NumberKind | "text" | "topic" | "binary" | "pair";

interface Property {
  readonly name: string;
  readonly kind: Kind;
  /** The reason code where the value is 0, if 0 is refused. */
  readonly zero?: number;
}

const ZERO = { zero: REASON.protocolError } as const;

/** All that a client may send, by identifier. */
const PROPERTIES: readonly (Property | undefined)[] = byId([
  [PROPERTY.payloadFormat, { name: "payload format indicator", kind: "flag" }],
  [PROPERTY.messageExpiry, { name: "message expiry interval", kind: "uint32" }],
  [PROPERTY.contentType, { name: "content type", kind: "text" }],
  [PROPERTY.responseTopic, { name: "response topic", kind: "topic" }],
  [PROPERTY.correlationData, { name: "correlation data", kind: "binary" }],
  [PROPERTY.subscriptionId, { name: "subscription identifier", kind: "variable", ...ZERO }],
  [PROPERTY.sessionExpiry, { name: "session expiry interval", kind: "uint32" }],
  [PROPERTY.authenticationMethod, { name: "authentication method", kind: "text" }],
  [PROPERTY.authenticationData, { name: "authentication data", kind: "binary" }],
  [PROPERTY.requestProblemInformation, { name: "request problem information", kind: "flag" }],
  [PROPERTY.willDelay, { name: "will delay interval", kind: "uint32" }],
  [PROPERTY.requestResponseInformation, { name: "request response information", kind: "flag" }],
  [PROPERTY.reasonString, { name: "reason string", kind: "text" }],
  [PROPERTY.receiveMaximum, { name: "receive maximum", kind: "uint16", ...ZERO }],
  [PROPERTY.topicAliasMaximum, { name: "topic alias maximum", kind: "uint16" }],
  // [MQTT-3.3.2-8]
  [PROPERTY.topicAlias, { name: "topic alias", kind: "uint16", zero: REASON.topicAliasInvalid }],
  [PROPERTY.userProperty, { name: "user property", kind: "pair" }],
  [PROPERTY.maximumPacketSize, { name: "maximum packet size", kind: "uint32", ...ZERO }],
]);

function byId(entries: readonly [number, Property][]): (Property | undefined)[] {
  const table: (Property | undefined)[] = new Array(PROPERTY.maximumPacketSize + 1).fill(undefined);
  for (const [id, property] of entries) table[id] = property;
  return table;
}

/** The properties that may stand in one place. */
export type Allowed = ReadonlySet<number>;

/**
 * Walks one place's properties: next() goes to each in turn and checks it; id, number, text() and
 * bytes() then tell what it is. Nothing is copied, and no string is made that nobody asks for.
 * @throws WireError whatever is wrong with them.
 */
export class PropertyReader {
  readonly #fields: Cursor;
  readonly #allowed: Allowed;
  readonly #place: string;
  /** The identifiers that came: below 32, and from there on. */
  #seenLow = 0;
  #seenHigh = 0;
  #id = 0;
  #number = 0;
  #from = 0;
  #value: Span = { from: 0, to: 0 };

  constructor(fields: Cursor, allowed: Allowed, place: string) {
    this.#fields = fields;
    this.#allowed = allowed;
    this.#place = place;
  }

  get id(): number {
    return this.#id;
  }

  /** The value of a property that is a number; 0 of every other. */
  get number(): number {
    return this.#number;
  }

  /** Where the property begins, with its identifier. */
  get from(): number {
    return this.#from;
  }

  /** Where the property ends. */
  get to(): number {
    return this.#fields.at;
  }

  /** The value of a property that is one string. */
  text(): string {
    return this.#fields.bytes.toString("utf8", this.#value.from, this.#value.to);
  }

  next(): boolean {
    const fields = this.#fields;
    if (fields.left === 0) return false;
    this.#from = fields.at;
    this.#number = 0;
    this.#id = fields.variable();
    const property = PROPERTIES[this.#id];
    if (property === undefined || !this.#allowed.has(this.#id)) {
      throw malformed(`${this.#place} holds property ${this.#id}, which has no place there`);
    }
    if (property.kind !== "pair") this.#assertFirst(property);
    this.#read(property);
    return true;
  }

  #assertFirst(property: Property): void {
    const bit = 1 << (this.#id & 31);
    const seen = this.#id < 32 ? this.#seenLow : this.#seenHigh;
    if ((seen & bit) !== 0) throw protocolError(`${this.#place} holds its ${property.name} twice`);
    if (this.#id < 32) this.#seenLow |= bit;
    else this.#seenHigh |= bit;
  }

  #read(property: Property): void {
    const fields = this.#fields;
    switch (property.kind) {
      case "text":
        this.#value = fields.textSpan(property.name);
        break;
      case "topic":
        this.#value = fields.textSpan(property.name);
        this.#assertTopic(property);
        break;
      case "binary":
        fields.binarySpan();
        break;
      case "pair":
        fields.textSpan(property.name);
        fields.textSpan(property.name);
        break;
      default:
        this.#number = numberOf(property, property.kind, fields);
    }
  }

  /** [MQTT-3.3.2-14, 4.7.3-1] */
  #assertTopic(property: Property): void {
    const { from, to } = this.#value;
    if (from === to) throw protocolError(`a ${property.name} is empty [MQTT-4.7.3-1]`);
    if (holdsWildcard(this.#fields.bytes, from, to)) {
      throw protocolError(`a ${property.name} holds a wildcard [MQTT-3.3.2-14]`);
    }
  }
}

function numberOf(property: Property, kind: NumberKind, fields: Cursor): number {
  const value = readNumber(kind, fields);
  if (kind === "flag" && value > 1) {
    throw protocolError(`a ${property.name} is ${value}, not 0 or 1`);
  }
  if (value === 0 && property.zero !== undefined) {
    throw new WireError(property.zero, `a ${property.name} is 0`);
  }
  return value;
}

function readNumber(kind: NumberKind, fields: Cursor): number {
  switch (kind) {
    case "flag":
      return fields.byte();
    case "uint16":
      return fields.uint16();
    case "uint32":
      return fields.uint32();
    case "variable":
      return fields.variable();
  }
}

/** Gathers the properties of one message that are passed on as they are: see Message.properties. */
export class Forwarded {
  /** Where each run of them begins and ends. */
  readonly #runs: number[] = [];

  keep(from: number, to: number): void {
    if (this.#runs.at(-1) === from) this.#runs.pop();
    else this.#runs.push(from);
    this.#runs.push(to);
  }

  /** A view of `source` where they stand together, else a copy; undefined where there is none. */
  in(source: Buffer): Uint8Array | undefined {
    const [from, to] = this.#runs;
    if (this.#runs.length <= 2) return from === undefined ? undefined : source.subarray(from, to);
    const pieces: Buffer[] = [];
    for (let index = 0; index < this.#runs.length; index += 2) {
      pieces.push(source.subarray(this.#runs[index], this.#runs[index + 1]));
    }
    return Buffer.concat(pieces);
  }
}
