// malformed.test: bytes that are no MQTT 3.1.1, and how they are cut (§1.5.3, §2.2, §2.3, §4.8).

import assert from "node:assert/strict";
import { test } from "node:test";
import { conformanceBroker } from "../support/broker.ts";
import { assertCloses, assertRefuses, publishOnce, subscriber } from "../support/exchanges.ts";
import {
  ackPacket,
  connectPacket,
  disconnectPacket,
  hex,
  packet,
  pingreqPacket,
  publishPacket,
  subscribePacket,
  unsubscribePacket,
} from "../support/wire-build.ts";
import { fresh } from "../support/wire-client.ts";

const broker = conformanceBroker();

const ILL_FORMED = {
  "a byte that begins no character": "61 ff 62",
  "a continuation byte alone": "61 80",
  "a character that is cut short": "61 e2 82",
  "an overlong character": "c0 af",
  "an overlong U+0000": "c0 80",
  "the first surrogate": "ed a0 80",
  "the last surrogate": "61 ed bf bf",
  "a pair of surrogates": "ed a0 bd ed b8 80",
  "a character beyond U+10FFFF": "f4 90 80 80",
} as const;

for (const [clause, texts] of [
  ["1.5.3-1", ILL_FORMED],
  ["1.5.3-2", { "U+0000": "61 00 62", "U+0000 alone": "00" }],
] as const) {
  for (const [what, spelled] of Object.entries(texts)) {
    const text = hex(spelled);
    const and = clause === "1.5.3-2" ? " [MQTT-4.7.3-2]" : "";

    test(`[MQTT-${clause}] [MQTT-3.1.3-4] [MQTT-3.1.3-10] [MQTT-3.1.3-11] refuses a CONNECT with ${what}`, async (t) => {
      const clientId = fresh();
      await assertRefuses(t, broker, connectPacket({ clientId: text }));
      await assertRefuses(t, broker, connectPacket({ clientId, will: { topic: text } }));
      const login = { username: text, password: "p" };
      await assertRefuses(t, broker, connectPacket({ clientId, ...login }));
    });

    test(`[MQTT-${clause}] [MQTT-3.3.2-1]${and} a topic with ${what} ends the connection`, async (t) => {
      await assertCloses(t, broker, publishPacket({ topic: text }));
      await assertCloses(t, broker, publishPacket({ topic: text, qos: 1 }));
    });

    test(`[MQTT-${clause}] [MQTT-3.8.3-1] [MQTT-3.10.3-1]${and} a filter with ${what} ends the connection`, async (t) => {
      await assertCloses(t, broker, subscribePacket({ filters: [{ filter: text }] }));
      const filters = [{ filter: "a" }, { filter: text }];
      await assertCloses(t, broker, subscribePacket({ filters }));
      await assertCloses(t, broker, unsubscribePacket({ filters: ["a", text] }));
    });
  }
}

test("[MQTT-1.5.3-1] takes characters of every length in every string", async (t) => {
  const text = "\u{1}~\u{a0}\u{7ff}\u{800}\u{d7ff}\u{e000}\u{fffd}\u{10000}\u{10fffd}";
  // Control characters may be refused (§1.5.3), all else may not.
  const topic = fresh("t") + text.slice(1);
  const client = await broker.connect(t, { clientId: fresh() + text.slice(1) });
  await client.subscribe(topic, 1);
  await client.publish(topic, text);
  await client.expect("publish", { topic, payload: text });
});

const FLAGLESS = {
  CONNECT: (flags: number) => connectPacket({ clientId: fresh(), flags }),
  PUBACK: (flags: number) => ackPacket("puback", { flags }),
  PUBREC: (flags: number) => ackPacket("pubrec", { flags }),
  PUBCOMP: (flags: number) => ackPacket("pubcomp", { flags }),
  PINGREQ: (flags: number) => pingreqPacket({ flags }),
  DISCONNECT: (flags: number) => disconnectPacket({ flags }),
} as const;

for (const [name, build] of Object.entries(FLAGLESS)) {
  test(`[MQTT-2.2.2-1] [MQTT-2.2.2-2] ${name} with any flag ends the connection`, async (t) => {
    const asserts = name === "CONNECT" ? assertRefuses : assertCloses;
    for (const flags of [1, 2, 4, 8, 15]) await asserts(t, broker, build(flags));
  });
}

for (const flags of [0, 1, 3, 4, 6, 10, 15]) {
  test(`[MQTT-3.6.1-1] [MQTT-2.2.2-2] PUBREL with the flags ${flags} ends the connection`, async (t) => {
    await assertCloses(t, broker, ackPacket("pubrel", { flags }));
  });
}

test("[MQTT-2.3.1-1] packet id 0 ends the connection", async (t) => {
  const packetId = 0;
  const filters = [{ filter: "a" }];
  await assertCloses(t, broker, publishPacket({ topic: "a", qos: 1, packetId }));
  await assertCloses(t, broker, publishPacket({ topic: "a", qos: 2, packetId }));
  await assertCloses(t, broker, subscribePacket({ packetId, filters }));
  await assertCloses(t, broker, unsubscribePacket({ packetId, filters: ["a"] }));
});

for (const name of ["puback", "pubrec", "pubrel", "pubcomp"] as const) {
  test(`[MQTT-2.3.1-1] [MQTT-4.8.0-1] ${name} with packet id 0 ends the connection`, async (t) => {
    await assertCloses(t, broker, ackPacket(name, { packetId: 0 }));
  });

  test(`[MQTT-4.8.0-1] ${name} of another length than two ends the connection`, async (t) => {
    const first = ackPacket(name, {}).subarray(0, 1);
    await assertCloses(t, broker, first, "00");
    await assertCloses(t, broker, first, "01 00");
    await assertCloses(t, broker, first, "03 00 01 00");
  });
}

test("[MQTT-4.8.0-1] PINGREQ and DISCONNECT with a body end the connection", async (t) => {
  await assertCloses(t, broker, pingreqPacket({ tail: hex("00") }));
  const topic = fresh("t");
  const observer = await subscriber(t, broker, topic);
  const client = await broker.connect(t, { will: { topic, payload: "will" } });
  client.sendDisconnect({ tail: hex("00") });
  assert.deepEqual(await client.closed(), []);
  await observer.expect("publish", { payload: "will" });
});

test("[MQTT-2.3.1-1] PUBLISH, SUBSCRIBE and UNSUBSCRIBE without room for an id end the connection", async (t) => {
  await assertCloses(t, broker, packet(3, 2, hex("0001 61")));
  await assertCloses(t, broker, packet(3, 4, hex("0001 61 00")));
  for (const type of [8, 10]) {
    await assertCloses(t, broker, packet(type, 2, hex("")));
    await assertCloses(t, broker, packet(type, 2, hex("00")));
  }
});

for (const [name, type, body] of [
  ["the reserved type 0", 0, ""],
  ["the reserved type 15", 15, ""],
  ["CONNACK", 2, "0000"],
  ["SUBACK", 9, "000100"],
  ["UNSUBACK", 11, "0001"],
  ["PINGRESP", 13, ""],
] as const) {
  test(`[MQTT-4.8.0-1] ${name} from a client ends the connection`, async (t) => {
    await assertCloses(t, broker, packet(type, 0, hex(body)));
  });
}

test("[MQTT-4.8.0-1] a string that is longer than its packet ends the connection", async (t) => {
  await assertCloses(t, broker, packet(3, 0, hex("ffff 61 62 63")));
  await assertCloses(t, broker, packet(8, 2, hex("0001 00ff 61 00")));
  await assertCloses(t, broker, packet(10, 2, hex("0001 ffff 61")));
  await assertRefuses(t, broker, hex("10 0c 0004 4d515454 04 02 0000 00ff"));
});

test("[MQTT-4.8.0-1] the end of one connection by an error ends no other", async (t) => {
  const topic = fresh("t");
  const bystander = await subscriber(t, broker, topic);
  for (let type = 0; type < 16; type++) {
    const client = await broker.connect(t);
    client.send(packet(type, 9, hex("ffff ffff")));
    await client.closed();
  }
  await publishOnce(t, broker, topic, "1");
  await bystander.expect("publish", { payload: "1" });
});

test("[MQTT-4.8.0-1] what stood before the error in the same write is done", async (t) => {
  const topic = fresh("t");
  const observer = await subscriber(t, broker, topic);
  await assertCloses(t, broker, publishPacket({ topic, payload: "1" }), "00 00");
  await observer.expect("publish", { payload: "1" });
});

test("[MQTT-3.3.4-1] a session is understood however its bytes are cut", async (t) => {
  const topic = fresh("t");
  const bytes = Buffer.concat([
    connectPacket({ clientId: fresh(), keepAlive: 60, will: { topic, payload: "will" } }),
    subscribePacket({ packetId: 1, filters: [{ filter: topic, qos: 0 }] }),
    publishPacket({ topic, payload: Buffer.alloc(200, "x"), qos: 1, packetId: 2 }),
    pingreqPacket(),
  ]);
  for (const size of [1, 2, 3, 7, 64, bytes.length]) {
    const client = await broker.open(t);
    for (let at = 0; at < bytes.length; at += size) client.send(bytes.subarray(at, at + size));
    await client.expect("connack", { code: 0 });
    await client.expect("suback", { packetId: 1 });
    const rest = [await client.next(), await client.next(), await client.next()];
    assert.deepEqual(rest.map(({ name }) => name).sort(), ["pingresp", "puback", "publish"]);
    client.cut();
  }
});

test("[MQTT-3.1.4-1] a Remaining Length of more bytes than needed is understood", async (t) => {
  const client = await broker.open(t);
  const body = connectPacket({ clientId: "" }).subarray(2);
  client.send(Buffer.concat([hex("10"), Buffer.from([body.length | 0x80, 0x80, 0]), body]));
  await client.expect("connack", { code: 0 });
});
