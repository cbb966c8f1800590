// limited-gateway: a gateway with small limits, and a client there that must notice nothing.
// Path: tests of limits → [limited-gateway] → watched-gateway. Touches: what a gateway touches.

import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import type { TestContext } from "node:test";
import {
  type ConnectOptions,
  connectPacket,
  type PublishOptions,
} from "../../conformance/support/wire-build.ts";
import type { WireClient } from "../../conformance/support/wire-client.ts";
import type { Packet, PacketName } from "../../conformance/support/wire-read.ts";
import { type Watched, watchedGateway } from "./watched-gateway.ts";

/** Reason codes (MQTT 5.0 §2.4), by the names that the specification gives them. */
export const CODE = {
  keepAliveTimeout: 0x8d,
  topicFilterInvalid: 0x8f,
  topicNameInvalid: 0x90,
  receiveMaximumExceeded: 0x93,
  topicAliasInvalid: 0x94,
  packetTooLarge: 0x95,
  messageRateTooHigh: 0x96,
  quotaExceeded: 0x97,
} as const;

export interface Limited extends Watched {
  /** A client of MQTT 5.0 that was accepted. */
  connect5(options?: ConnectOptions): Promise<WireClient>;
  /** Fails unless the client that was there before still is, and has heard nothing. */
  assertOthersUnharmed(): Promise<void>;
}

/** A gateway with these limits; one client is connected to it already. */
export async function limitedGateway(
  t: TestContext,
  limits: Record<string, number>,
  more: Record<string, unknown> = {},
): Promise<Limited> {
  const gateway = await watchedGateway(t, { limits, ...more });
  const other = await gateway.connect({ version: 5 });
  return {
    ...gateway,
    connect5: (options = {}) => gateway.connect({ version: 5, ...options }),
    assertOthersUnharmed: () => other.nothing(),
  };
}

/** The broker says `name` with that code, and nothing else any more. */
export async function assertEnds(
  client: WireClient,
  name: PacketName,
  code: number,
): Promise<void> {
  const said = (await client.closed()).map((it) => [it.name, it.code]);
  assert.deepEqual(said, [[name, code]]);
}

/** The broker closes without a word, as it must towards a client of 3.1.1. */
export async function assertClosedSilently(client: WireClient): Promise<void> {
  assert.deepEqual(
    (await client.closed()).map(({ name }) => name),
    [],
  );
}

/** What a CONNECT from this address of the machine is answered with. */
export async function connectFrom(
  t: TestContext,
  port: number,
  localAddress: string,
): Promise<"connack" | "closed"> {
  const socket = connect({ port, host: "127.0.0.1", localAddress });
  socket.on("error", () => {});
  t.after(() => socket.destroy());
  const closed = new Promise<"closed">((resolve) => socket.on("close", () => resolve("closed")));
  socket.write(connectPacket({ clientId: `from-${localAddress}-${Math.random()}` }));
  const answered = once(socket, "data").then(
    ([bytes]): "connack" | "closed" => ((bytes as Buffer)[0] === 0x20 ? "connack" : "closed"),
    () => "closed" as const,
  );
  return Promise.race([closed, answered]);
}

/** Many messages in one write, the first with packet id 1. */
export function messages(
  count: number,
  make: (index: number) => PublishOptions,
  encode: (options: PublishOptions) => Buffer,
): Buffer {
  const all = Array.from({ length: count }, (_, index) =>
    encode({ packetId: index + 1, ...make(index) }),
  );
  return Buffer.concat(all);
}

/** Everything until `count` packets of that kind have come. */
export async function collect(
  client: WireClient,
  name: PacketName,
  count: number,
): Promise<Packet[]> {
  const packets: Packet[] = [];
  while (packets.length < count) packets.push(await client.expect(name));
  return packets;
}
