// properties.test: which properties stand where, how often and with which values.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  CODE,
  connect,
  connectFaultOf,
  faultIn,
  field,
  packet,
  properties,
  publish,
  raw,
  read,
  readConnect,
} from "./packet-bytes.ts";

/** An instance of every property of table 2-4. */
const EVERY: ReadonlyMap<number, Buffer> = new Map([
  [0x01, raw("0101")],
  [0x02, raw("0200000001")],
  [0x03, raw("03", field("t"))],
  [0x08, raw("08", field("r"))],
  [0x09, raw("09", field("c"))],
  [0x0b, raw("0b01")],
  [0x11, raw("1100000001")],
  [0x12, raw("12", field("id"))],
  [0x13, raw("130001")],
  [0x15, raw("15", field("m"))],
  [0x16, raw("16", field("d"))],
  [0x17, raw("1701")],
  [0x18, raw("1800000001")],
  [0x19, raw("1901")],
  [0x1a, raw("1a", field("r"))],
  [0x1c, raw("1c", field("s"))],
  [0x1f, raw("1f", field("why"))],
  [0x21, raw("210001")],
  [0x22, raw("220001")],
  [0x23, raw("230001")],
  [0x24, raw("2401")],
  [0x25, raw("2501")],
  [0x26, raw("26", field("k"), field("v"))],
  [0x27, raw("2700000100")],
  [0x28, raw("2801")],
  [0x29, raw("2901")],
  [0x2a, raw("2a01")],
]);

interface Place {
  readonly name: string;
  readonly allowed: readonly number[];
  readonly bytes: (block: Buffer) => Buffer;
  /** Stands in every packet of this place, or it would be refused for the lack of it. */
  readonly always?: number;
}

const METHOD = EVERY.get(0x15) ?? raw();

const PLACES: readonly Place[] = [
  {
    name: "CONNECT",
    allowed: [0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27],
    always: 0x15,
    bytes: (block) => connect(5, { properties: block }),
  },
  {
    name: "a will",
    allowed: [0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26],
    bytes: (block) =>
      connect(5, { flags: 0x06, rest: raw(properties(5, block), field("w"), field("x")) }),
  },
  {
    name: "PUBLISH",
    allowed: [0x01, 0x02, 0x03, 0x08, 0x09, 0x23, 0x26],
    bytes: (block) => publish(5, { properties: block }),
  },
  ...["40", "50", "62", "70"].map((first) => ({
    name: `the acknowledgement ${first}`,
    allowed: [0x1f, 0x26],
    bytes: (block: Buffer) => packet(Number.parseInt(first, 16), "0001 00", properties(5, block)),
  })),
  {
    name: "SUBSCRIBE",
    allowed: [0x0b, 0x26],
    bytes: (block) => packet(0x82, "0001", properties(5, block), field("a"), "00"),
  },
  {
    name: "UNSUBSCRIBE",
    allowed: [0x26],
    bytes: (block) => packet(0xa2, "0001", properties(5, block), field("a")),
  },
  {
    name: "DISCONNECT",
    allowed: [0x11, 0x1f, 0x26],
    bytes: (block) => packet(0xe0, "00", properties(5, block)),
  },
  {
    name: "AUTH",
    allowed: [0x15, 0x16, 0x1f, 0x26],
    always: 0x15,
    bytes: (block) => packet(0xf0, "18", properties(5, block)),
  },
];

function accept(bytes: Buffer): void {
  if ((bytes[0] ?? 0) === 0x10) readConnect(bytes);
  else read(5, bytes);
}

function codeOf(bytes: Buffer): number {
  return faultIn(() => accept(bytes)).reasonCode;
}

/** The property, and the one that the place cannot do without. */
function withAlways(place: Place, id: number, block: Buffer): Buffer {
  return place.always === undefined || place.always === id ? block : raw(METHOD, block);
}

for (const place of PLACES) {
  test(`§2.2.2.2 takes in ${place.name} the properties of its own, and no other`, () => {
    for (const [id, property] of EVERY) {
      const bytes = place.bytes(withAlways(place, id, property));
      if (place.allowed.includes(id)) accept(bytes);
      // In a PUBLISH it has its place, though not in a client's [MQTT-3.3.4-6].
      else if (place.name === "PUBLISH" && id === 0x0b) assert.equal(codeOf(bytes), 0x82);
      else assert.equal(codeOf(bytes), CODE.malformed, `property ${id}`);
    }
    for (const id of [0x00, 0x04, 0x2b, 0x7f]) {
      assert.equal(codeOf(place.bytes(raw([id, 0]))), CODE.malformed, `property ${id}`);
    }
  });

  test(`§2.2.2.2 refuses in ${place.name} a property that comes twice, but for user properties`, () => {
    for (const id of place.allowed) {
      const twice = raw(EVERY.get(id) ?? "", EVERY.get(id) ?? "");
      const bytes = place.bytes(withAlways(place, id, twice));
      if (id === 0x26) accept(bytes);
      else assert.equal(codeOf(bytes), CODE.protocolError, `property ${id}`);
    }
  });

  test(`[MQTT-1.5.4-1, 1.5.4-2, 1.5.7-1] refuses bad text in every string property of ${place.name}`, () => {
    for (const bad of ["ff", "eda080", "c080", "00"]) {
      const text = field(raw(bad));
      for (const id of place.allowed.filter((one) => [0x03, 0x08, 0x15, 0x1f].includes(one))) {
        const bytes = place.bytes(withAlways(place, id, raw([id], text)));
        assert.equal(codeOf(bytes), CODE.malformed, `property ${id}`);
      }
      for (const pair of [raw(text, field("v")), raw(field("k"), text)]) {
        const bytes = place.bytes(withAlways(place, 0x26, raw("26", pair)));
        assert.equal(codeOf(bytes), CODE.malformed);
      }
    }
  });

  test(`refuses properties of ${place.name} that end within a value or beyond the packet`, () => {
    for (const id of place.allowed) {
      const property = EVERY.get(id) ?? raw();
      for (let length = 1; length < property.length; length += 1) {
        const bytes = place.bytes(withAlways(place, id, property.subarray(0, length)));
        assert.equal(codeOf(bytes), CODE.malformed, `property ${id} in ${length} bytes`);
      }
    }
  });
}

test("refuses a property length that reaches beyond its packet", () => {
  assert.equal(codeOf(packet(0x30, field("a"), "05 0101")), CODE.malformed);
  assert.equal(codeOf(packet(0x82, "0001 7f", field("a"), "00")), CODE.malformed);
});

test("[MQTT-2.2.2-1] refuses a packet that lacks its property length", () => {
  assert.equal(codeOf(packet(0x30, field("a"))), CODE.malformed);
  assert.equal(codeOf(packet(0x82, "0001")), CODE.malformed);
  assert.equal(codeOf(packet(0xa2, "0001")), CODE.malformed);
});

test("§1.5.5 refuses variable byte integers of five bytes", () => {
  const fault = faultIn(() => accept(packet(0x30, field("a"), "ffffffff01")));
  assert.equal(fault.reasonCode, CODE.malformed);
  assert.equal(fault.message, "a variable byte integer is longer than four bytes");
});

test("[MQTT-1.5.5-1] refuses variable byte integers that are longer than they need be", () => {
  assert.equal(codeOf(packet(0x30, field("a"), "8000")), CODE.malformed);
  assert.equal(codeOf(packet(0x30, field("a"), "80808000")), CODE.malformed);
  assert.equal(codeOf(packet(0x82, "0001", properties(5, "0b8100"), field("a"), "00")), 0x81);
});

test("refuses flags that are neither 0 nor 1", () => {
  for (const bad of ["1702", "1902", "17ff"]) {
    assert.equal(codeOf(connect(5, { properties: bad })), CODE.protocolError, bad);
  }
  assert.equal(codeOf(publish(5, { properties: "0102" })), CODE.protocolError);
});

test("refuses a receive maximum, a maximum packet size and a subscription identifier of 0", () => {
  assert.equal(codeOf(connect(5, { properties: "210000" })), CODE.protocolError);
  assert.equal(codeOf(connect(5, { properties: "2700000000" })), CODE.protocolError);
  const bytes = packet(0x82, "0001", properties(5, "0b00"), field("a"), "00");
  assert.equal(codeOf(bytes), CODE.protocolError);
});

test("tells a 5.0 client what is wrong with its CONNECT's properties", () => {
  assert.equal(connectFaultOf(connect(5, { properties: "210000" })).refusalLevel, 5);
  assert.equal(connectFaultOf(connect(5, { properties: "ff" })).refusalLevel, 5);
});
