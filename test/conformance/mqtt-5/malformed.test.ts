// malformed.test: packets that are not as MQTT 5.0 says (§1.5, §2, §4.13): each ends its connection.
// Path: conformance tests → broker. Touches: what a gateway touches.

import assert from "node:assert/strict";
import { test } from "node:test";
import { conformanceBroker } from "../support/broker.ts";
import {
  ackPacket,
  authPacket,
  connectPacket,
  disconnectPacket,
  hex,
  packet,
  pingreqPacket,
  publishPacket,
  subscribePacket,
  unsubscribePacket,
} from "../support/wire-build.ts";
import { fresh, type WireClient } from "../support/wire-client.ts";
import {
  type Bytes,
  encodeProperties,
  integer,
  PROPERTY_NAMES,
  type Properties,
  type PropertyName,
  prefixed,
  type Text,
} from "../support/wire-properties.ts";
import { CODE, ended, mqtt5, refused, WRONG } from "./clients.ts";

const broker = conformanceBroker();
const { connect, open } = mqtt5(broker);

type Scope = Parameters<typeof connect>[0];

/** A packet with these properties, whose bytes stand for themselves. */
type Maker = (properties: Properties | Bytes) => Buffer;

const id = () => fresh();

/** Each packet of a client that has properties, and the will's. */
const MAKERS: Readonly<Record<string, Maker>> = {
  CONNECT: (properties) => connectPacket({ version: 5, clientId: id(), properties }),
  will: (properties) =>
    connectPacket({ version: 5, clientId: id(), will: { topic: "w", properties } }),
  PUBLISH: (properties) => publishPacket({ topic: "a", properties }, 5),
  PUBACK: (properties) => ackPacket("puback", { code: 0, properties }, 5),
  PUBREC: (properties) => ackPacket("pubrec", { code: 0, properties }, 5),
  PUBREL: (properties) => ackPacket("pubrel", { code: 0, properties }, 5),
  PUBCOMP: (properties) => ackPacket("pubcomp", { code: 0, properties }, 5),
  SUBSCRIBE: (properties) => subscribePacket({ filters: [{ filter: "a" }], properties }, 5),
  UNSUBSCRIBE: (properties) => unsubscribePacket({ filters: ["a"], properties }, 5),
  DISCONNECT: (properties) => disconnectPacket({ code: 0, properties }, 5),
  AUTH: (properties) => authPacket({ code: 0x18, properties }),
};

const ACKS = ["PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "DISCONNECT"];

/** Where a client may say which property (§2.2.2.2, table 2-4). */
const PLACES: Readonly<Record<PropertyName, readonly string[]>> = {
  payloadFormatIndicator: ["PUBLISH", "will"],
  messageExpiryInterval: ["PUBLISH", "will"],
  contentType: ["PUBLISH", "will"],
  responseTopic: ["PUBLISH", "will"],
  correlationData: ["PUBLISH", "will"],
  subscriptionIdentifier: ["SUBSCRIBE"],
  sessionExpiryInterval: ["CONNECT", "DISCONNECT"],
  assignedClientIdentifier: [],
  serverKeepAlive: [],
  authenticationMethod: ["CONNECT", "AUTH"],
  authenticationData: ["CONNECT", "AUTH"],
  requestProblemInformation: ["CONNECT"],
  willDelayInterval: ["will"],
  requestResponseInformation: ["CONNECT"],
  responseInformation: [],
  serverReference: [],
  reasonString: [...ACKS, "AUTH"],
  receiveMaximum: ["CONNECT"],
  topicAliasMaximum: ["CONNECT"],
  topicAlias: ["PUBLISH"],
  maximumQos: [],
  retainAvailable: [],
  userProperty: Object.keys(MAKERS),
  maximumPacketSize: ["CONNECT"],
  wildcardSubscriptionAvailable: [],
  subscriptionIdentifierAvailable: [],
  sharedSubscriptionAvailable: [],
};

/** A good value of each. */
const VALUES: Readonly<Record<PropertyName, NonNullable<Properties[PropertyName]>>> = {
  ...{ payloadFormatIndicator: 1, messageExpiryInterval: 1, contentType: "c", responseTopic: "r" },
  ...{ correlationData: "d", subscriptionIdentifier: 1, sessionExpiryInterval: 1 },
  ...{ assignedClientIdentifier: "i", serverKeepAlive: 1, authenticationMethod: "m" },
  ...{ authenticationData: "d", requestProblemInformation: 1, willDelayInterval: 1 },
  ...{ requestResponseInformation: 1, responseInformation: "r", serverReference: "s" },
  ...{ reasonString: "r", receiveMaximum: 9, topicAliasMaximum: 9, topicAlias: 1, maximumQos: 1 },
  ...{ retainAvailable: 1, userProperty: ["k", "v"], maximumPacketSize: 900 },
  ...{ wildcardSubscriptionAvailable: 1, subscriptionIdentifierAvailable: 1 },
  ...{ sharedSubscriptionAvailable: 1 },
};

/** Sends it as the first packet or after an accepted CONNECT, and expects the end of the connection. */
async function ends(
  t: Scope,
  place: string,
  bytes: Buffer,
  ...codes: readonly number[]
): Promise<void> {
  const isFirst = place === "CONNECT" || place === "will";
  const client: WireClient = isFirst ? await open(t) : await connect(t);
  client.send(bytes);
  try {
    if (isFirst) await refused(client, ...codes);
    else await ended(client, ...codes);
  } catch (cause) {
    throw new Error(`${place} ${bytes.subarray(0, 64).toString("hex")}`, { cause });
  }
}

const ILL_FORMED: Readonly<Record<string, string>> = {
  "[MQTT-1.5.4-1] a lone continuation byte": "61 80",
  "[MQTT-1.5.4-1] a broken sequence": "c3 28",
  "[MQTT-1.5.4-1] a sequence that is cut off": "61 e2 82",
  "[MQTT-1.5.4-1] an over-long form": "c0 af",
  "[MQTT-1.5.4-1] a high surrogate": "ed a0 80",
  "[MQTT-1.5.4-1] a low surrogate": "ed bf bf",
  "[MQTT-1.5.4-1] a pair of surrogates": "ed a0 81 ed b0 81",
  "[MQTT-1.5.4-1] a code point above U+10FFFF": "f4 90 80 80",
  "[MQTT-1.5.4-1] a byte that UTF-8 does not have": "ff",
  "[MQTT-1.5.4-2] U+0000": "61 00 62",
  "[MQTT-1.5.4-2] U+0000 in two bytes": "c0 80",
};

const TEXT_PROPERTIES: readonly PropertyName[] = [
  ...(["contentType", "responseTopic", "authenticationMethod", "reasonString"] as const),
];

/** Every place for a string that a client has, with its clause. */
const STRINGS: readonly (readonly [clause: string, place: string, make: (text: Text) => Buffer])[] =
  [
    [
      "[MQTT-3.1.3-4] the client id",
      "CONNECT",
      (clientId) => connectPacket({ version: 5, clientId }),
    ],
    [
      "[MQTT-3.1.3-11] the will topic",
      "CONNECT",
      (topic) => connectPacket({ version: 5, clientId: id(), will: { topic } }),
    ],
    [
      "[MQTT-3.1.3-12] the user name",
      "CONNECT",
      (username) => connectPacket({ version: 5, clientId: id(), username }),
    ],
    [
      "[MQTT-3.3.2-1] [MQTT-4.7.3-2] the topic name",
      "PUBLISH",
      (topic) => publishPacket({ topic }, 5),
    ],
    [
      "[MQTT-3.8.3-1] [MQTT-4.7.3-2] a filter",
      "SUBSCRIBE",
      (filter) => subscribePacket({ filters: [{ filter: "a" }, { filter }] }, 5),
    ],
    [
      "[MQTT-3.10.3-1] a filter",
      "UNSUBSCRIBE",
      (filter) => unsubscribePacket({ filters: ["a", filter] }, 5),
    ],
    ...TEXT_PROPERTIES.flatMap((name) =>
      PLACES[name].map(
        (place) => [`the ${name}`, place, (text: Text) => make(place, { [name]: text })] as const,
      ),
    ),
    ...Object.keys(MAKERS).flatMap((place) => [
      [
        "[MQTT-1.5.7-1] the name of a user property",
        place,
        (text: Text) => make(place, { userProperty: [[text, "v"]] }),
      ] as const,
      [
        "[MQTT-1.5.7-1] the value of a user property",
        place,
        (text: Text) => make(place, { userProperty: [["k", text]] }),
      ] as const,
    ]),
  ];

function make(place: string, properties: Properties | Bytes): Buffer {
  const maker = MAKERS[place];
  assert.ok(maker, place);
  return maker(properties);
}

const CLAUSE_OF: Partial<Record<PropertyName, string>> = {
  contentType: "[MQTT-3.3.2-19]",
  responseTopic: "[MQTT-3.3.2-13]",
};

for (const [what, place, makeWith] of STRINGS) {
  const property = TEXT_PROPERTIES.find((name) => what === `the ${name}`);
  const clause = property ? (CLAUSE_OF[property] ?? "[MQTT-1.5.4-1]") : "";
  test(`${clause}${what} of ${place} must be well-formed UTF-8 without U+0000`, async (t) => {
    for (const [fault, bytes] of Object.entries(ILL_FORMED)) {
      const isTopic = /topic|filter/i.test(what);
      const codes = isTopic
        ? [...WRONG, CODE.topicNameInvalid, CODE.topicFilterInvalid]
        : [...WRONG, CODE.clientIdentifierNotValid, CODE.badAuthenticationMethod];
      await ends(t, place, makeWith(hex(bytes)), ...codes).catch((cause: unknown) => {
        throw new Error(fault, { cause });
      });
    }
  });
}

const LONG_INTEGERS: Readonly<Record<string, Buffer>> = {
  "Remaining Length 0 in two bytes": hex("c0 8000"),
  "Remaining Length 0 in four bytes": hex("c0 80808000"),
  "Remaining Length 3 in two bytes": Buffer.concat([hex("30 8400 0001 61 00")]),
  "Property Length 0 in two bytes": packet(3, 0, hex("0001 61 8000")),
  "Subscription Identifier 1 in two bytes": packet(8, 2, hex("0001 03 0b8100 0001 61 00")),
  "Property Identifier 1 in two bytes": packet(3, 0, hex("0001 61 03 8100 01")),
};

for (const [name, bytes] of Object.entries(LONG_INTEGERS)) {
  test(`[MQTT-1.5.5-1] ${name} is malformed`, async (t) => {
    await ends(t, name, bytes, CODE.malformedPacket);
  });
}

test("[MQTT-1.5.5-1] a Remaining Length of five bytes is malformed", async (t) => {
  for (const bytes of ["c0 8080808000", "30 ffffffff7f", "30 ffffffff"]) {
    await ends(t, "Remaining Length", hex(bytes), ...WRONG, CODE.packetTooLarge);
  }
});

const RESERVED: Readonly<Record<string, (flags: number) => Buffer>> = {
  PUBACK: (flags) => ackPacket("puback", { flags }, 5),
  PUBREC: (flags) => ackPacket("pubrec", { flags }, 5),
  "[MQTT-3.6.1-1] PUBREL": (flags) => ackPacket("pubrel", { flags }, 5),
  PUBCOMP: (flags) => ackPacket("pubcomp", { flags }, 5),
  "[MQTT-3.8.1-1] SUBSCRIBE": (flags) => subscribePacket({ filters: [{ filter: "a" }], flags }, 5),
  "[MQTT-3.10.1-1] UNSUBSCRIBE": (flags) => unsubscribePacket({ filters: ["a"], flags }, 5),
  PINGREQ: (flags) => pingreqPacket({ flags }),
  "[MQTT-3.14.1-1] DISCONNECT": (flags) => disconnectPacket({ flags }, 5),
  "[MQTT-3.15.1-1] AUTH": (flags) => authPacket({ flags, code: 0x18 }),
  CONNECT: (flags) => connectPacket({ version: 5, clientId: id(), flags }),
};

for (const [name, makeWith] of Object.entries(RESERVED)) {
  test(`[MQTT-2.1.3-1] ${name} with other flags than its own is malformed`, async (t) => {
    const own = /PUBREL|SUBSCRIBE/.test(name) ? 2 : 0;
    for (let flags = 0; flags < 16; flags += 1) {
      if (flags !== own) await ends(t, name, makeWith(flags), CODE.malformedPacket);
    }
  });
}

test("[MQTT-4.13.1-1] the packet type 0 and those that a broker alone sends are refused", async (t) => {
  const answers = ["00 00", "20 03 000000", "90 04 00010000", "b0 04 00010000", "d0 00"];
  for (const bytes of answers) await ends(t, bytes, hex(bytes), ...WRONG);
});

for (const place of Object.keys(MAKERS)) {
  test(`[MQTT-4.13.1-1] a property that ${place} does not have is refused`, async (t) => {
    for (const name of PROPERTY_NAMES) {
      if (PLACES[name].includes(place)) continue;
      await ends(t, place, make(place, { [name]: VALUES[name] }), ...WRONG);
    }
  });

  test(`[MQTT-4.13.1-1] a property that ${place} may have once is refused when it comes twice`, async (t) => {
    for (const name of PROPERTY_NAMES) {
      if (!PLACES[name].includes(place) || name === "userProperty") continue;
      const more = name === "authenticationData" ? { authenticationMethod: "m" } : {};
      const bytes = make(place, { ...more, [name]: [VALUES[name], VALUES[name]] as never });
      await ends(t, place, bytes, CODE.protocolError);
    }
  });

  test(`[MQTT-2.2.2-1] unknown properties and lying lengths in ${place} are malformed`, async (t) => {
    for (const bytes of ["0000", "0400", "0700", "0a00", "1d00", "2b00", "7f00", "ff0100"]) {
      await ends(t, place, make(place, hex(bytes)), ...WRONG);
    }
    // A user property that ends before it is over.
    for (const bytes of [
      "26",
      "2600",
      "260001",
      "26000161",
      "2600016100",
      "260001610002",
      "26ffff",
    ]) {
      await ends(t, place, make(place, hex(bytes)), ...WRONG);
    }
  });
}

/** What a good packet of each kind brings on this connection. */
const GOOD: Readonly<Record<string, string>> = {
  ...{ CONNECT: "connack", will: "connack", PUBLISH: "", PUBACK: "", PUBREC: "pubrel" },
  ...{ PUBREL: "pubcomp", PUBCOMP: "", SUBSCRIBE: "suback", UNSUBSCRIBE: "unsuback" },
};

for (const [place, answer] of Object.entries(GOOD)) {
  test(`[MQTT-2.2.2-1] every property that ${place} may have is taken, once, and all together`, async (t) => {
    const own = PROPERTY_NAMES.filter(
      (name) => PLACES[name].includes(place) && !name.startsWith("authentication"),
    );
    const all = Object.fromEntries(own.map((name) => [name, VALUES[name]]));
    for (const properties of [...own.map((name) => ({ [name]: VALUES[name] })), all, {}]) {
      const isFirst = answer === "connack";
      const client: WireClient = isFirst ? await open(t) : await connect(t);
      client.send(make(place, properties));
      if (answer !== "") assert.equal((await client.next()).name, answer);
      await client.ping();
    }
  });
}

const RANGES: readonly (readonly [
  place: string,
  name: PropertyName,
  value: number,
  code?: number,
])[] = [
  ["CONNECT", "requestProblemInformation", 2],
  ["CONNECT", "requestProblemInformation", 255],
  ["CONNECT", "requestResponseInformation", 2],
  ["CONNECT", "requestResponseInformation", 255],
  ["CONNECT", "receiveMaximum", 0],
  ["CONNECT", "maximumPacketSize", 0],
  ["PUBLISH", "payloadFormatIndicator", 2],
  ["will", "payloadFormatIndicator", 2],
  ["PUBLISH", "topicAlias", 0, CODE.topicAliasInvalid],
  ["SUBSCRIBE", "subscriptionIdentifier", 0],
];

for (const [place, name, value, code] of RANGES) {
  test(`[MQTT-4.13.1-1] ${name} ${value} in ${place} is refused`, async (t) => {
    const codes = code === undefined ? WRONG : [code];
    await ends(t, place, make(place, { [name]: value }), ...codes);
  });
}

for (const place of ["PUBLISH", "will"]) {
  test(`[MQTT-3.3.2-14] a response topic with wildcards in ${place} is a protocol error`, async (t) => {
    for (const responseTopic of ["#", "a/+/b", "a/#", "a+"]) {
      const bytes = make(place, { responseTopic });
      await ends(t, place, bytes, ...WRONG, CODE.topicNameInvalid);
    }
  });
}

/** Good packets; cut off anywhere, or with bytes behind them, they are not. */
const WHOLE: Readonly<Record<string, Buffer>> = {
  CONNECT: connectPacket({
    ...{ version: 5, clientId: "cut", username: "u", password: "p" },
    ...{ properties: { receiveMaximum: 9 }, will: { topic: "w", payload: "x", properties: {} } },
  }),
  SUBSCRIBE: subscribePacket({ filters: [{ filter: "ab" }] }, 5),
  UNSUBSCRIBE: unsubscribePacket({ filters: ["ab"] }, 5),
  PUBACK: ackPacket("puback", {}, 5),
  PUBREC: ackPacket("pubrec", {}, 5),
  PUBREL: ackPacket("pubrel", {}, 5),
  PUBCOMP: ackPacket("pubcomp", {}, 5),
  PUBLISH: publishPacket({ topic: "ab", qos: 1, properties: { contentType: "c" } }, 5),
};

for (const [place, bytes] of Object.entries(WHOLE)) {
  test(`[MQTT-4.13.1-1] ${place} that ends before it is over is malformed`, async (t) => {
    const [type, flags] = [bytes.readUInt8(0) >> 4, bytes.readUInt8(0) & 15];
    for (let length = 0; length < bytes.length - 2; length += 1) {
      await ends(t, place, packet(type, flags, bytes.subarray(2, 2 + length)), ...WRONG);
    }
  });
}

const TAILS: Readonly<Record<string, Buffer>> = {
  CONNECT: connectPacket({ version: 5, clientId: "tail", tail: hex("00") }),
  PUBACK: ackPacket("puback", { code: 0, properties: {}, tail: hex("00") }, 5),
  PUBREL: ackPacket("pubrel", { code: 0, properties: {}, tail: hex("00") }, 5),
  SUBSCRIBE: subscribePacket({ filters: [{ filter: "a" }], tail: hex("0001") }, 5),
  UNSUBSCRIBE: unsubscribePacket({ filters: ["a"], tail: hex("00") }, 5),
  PINGREQ: pingreqPacket({ tail: hex("00") }),
  DISCONNECT: disconnectPacket({ code: 0, properties: {}, tail: hex("00") }, 5),
};

test("[MQTT-4.13.1-1] bytes behind the end of a packet's fields are malformed", async (t) => {
  for (const [place, bytes] of Object.entries(TAILS)) await ends(t, place, bytes, ...WRONG);
});

test("[MQTT-2.2.2-1] a Property Length that reaches beyond the packet is malformed", async (t) => {
  await ends(t, "PUBLISH", packet(3, 0, hex("0001 61 05 01")), ...WRONG);
  await ends(t, "SUBSCRIBE", packet(8, 2, hex("0001 7f 0001 61 00")), ...WRONG);
  const start = Buffer.concat([prefixed("MQTT"), hex("05 02 0000 7f"), prefixed("c")]);
  await ends(t, "CONNECT", packet(1, 0, start), ...WRONG);
});

test("[MQTT-2.2.2-1] a packet whose properties are left away where they may not be is malformed", async (t) => {
  await ends(t, "SUBSCRIBE", packet(8, 2, Buffer.concat([integer(1, 2), prefixed("a")])), ...WRONG);
  await ends(t, "PUBLISH", packet(3, 0, prefixed("a")), ...WRONG);
});

test("[MQTT-2.2.2-1] reason code and properties may be left away where there is success to tell", async (t) => {
  const client = await connect(t);
  const topic = fresh("t");
  await client.subscribe(topic, 1);
  for (const end of ["", "00", "00 00"]) {
    const publisher = await connect(t);
    await publisher.publish(topic, "1", { qos: 1 });
    const { packetId } = await client.expect("publish");
    client.send(packet(4, 0, Buffer.concat([integer(packetId, 2), hex(end)])));
    await client.ping();
  }
});

test("[MQTT-1.5.4-3] U+FEFF, other controls and noncharacters are text", async (t) => {
  const client = await connect(t, { clientId: `\ufeff${fresh()}` });
  const topic = `${fresh("t")}/\ufeff\u0001\u007f\u0085\uffff\u{1ffff}`;
  await client.subscribe(topic);
  client.sendPublish({ topic, properties: { userProperty: [["\ufeff", "\ufeff"]] } });
  await client.expect("publish", { topic, properties: { userProperty: [["\ufeff", "\ufeff"]] } });
});

test("[MQTT-4.13.2-1] after all of this a good client is served", async (t) => {
  const properties = encodeProperties({}).subarray(1);
  const client = await connect(t, { properties });
  await client.publish(fresh("t"), "1", { qos: 2 });
});
