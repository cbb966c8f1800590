// connect-packet.test: what is read of a CONNECT, and what a login changes in it.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { generate, type IConnectPacket, parser } from "mqtt-packet";
import {
  connackOf,
  REFUSALS,
  readConnect,
  withLogin,
} from "../../../../firmware-bridge/drivers/mqtt/connect-packet.ts";
import { connectPackets } from "./packets.ts";

function parsed(bytes: Uint8Array, protocolVersion = 4): Record<string, unknown> {
  const packets: unknown[] = [];
  const reader = parser({ protocolVersion });
  reader.on("packet", (packet) => packets.push(packet));
  reader.on("error", (fault) => assert.fail(fault));
  assert.equal(reader.parse(Buffer.from(bytes)), 0);
  assert.equal(packets.length, 1);
  return packets[0] as Record<string, unknown>;
}

test("reads version, client id and login of every CONNECT that there can be", () => {
  fc.assert(
    fc.property(connectPackets, (packet) => {
      assert.deepEqual(readConnect(generate(packet)), {
        version: packet.protocolVersion,
        clientId: packet.clientId,
        hasLogin: packet.username !== undefined,
      });
    }),
    { seed: 5 },
  );
});

test("adds a login and changes nothing else", () => {
  const names = fc.string({ minLength: 1, maxLength: 200, unit: "grapheme" });
  const without = connectPackets.filter(({ username }) => username === undefined);
  fc.assert(
    fc.property(without, names, fc.option(names, { nil: undefined }), (packet, name, password) => {
      const before = parsed(generate(packet));
      const after = parsed(withLogin(generate(packet), name, password));
      const wanted = { username: name, ...(password && { password: Buffer.from(password) }) };
      const ignored = { length: 0 };
      assert.deepEqual({ ...after, ...ignored }, { ...before, ...wanted, ...ignored });
    }),
    { seed: 5 },
  );
});

test("takes the version of a connection between brokers without its bridge bit", () => {
  const packet: IConnectPacket = { cmd: "connect", protocolVersion: 4, clientId: "b", clean: true };
  const bytes = generate({ ...packet, bridgeMode: true } as IConnectPacket);
  assert.equal(readConnect(bytes)?.version, 4);
});

test("reads nothing of a CONNECT that ends too soon, wherever that is", () => {
  fc.assert(
    fc.property(connectPackets, fc.nat(), (packet, cut) => {
      const whole = generate({ ...packet, keepalive: 1 });
      const facts = readConnect(whole.subarray(0, cut % whole.length));
      // The client id may be there before the rest is.
      if (facts) assert.deepEqual(facts, readConnect(whole));
    }),
    { seed: 5 },
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => void readConnect(bytes)),
    { seed: 5, numRuns: 2_000 },
  );
});

test("refuses a client id with the code of its version", () => {
  assert.equal(parsed(connackOf(REFUSALS.clientId, 3)).returnCode, 2);
  assert.equal(parsed(connackOf(REFUSALS.clientId, 4)).returnCode, 2);
  assert.equal(parsed(connackOf(REFUSALS.clientId, 5), 5).reasonCode, 0x85);
});
