// wire-client: an MQTT client that says exactly what a test tells it to, and tells exactly what came.
// Path: conformance tests → [wire-client] → wire-build, wire-read. Touches: a TCP connection.
//
// It shares no code with the broker. A client speaks one version, 3 (MQTT 3.1), 4 (3.1.1, the
// default) or 5, and adds nothing of its own: no keep alive, no acknowledgement, no reconnect.
//
//   const broker = conformanceBroker();                            // once a file: broker.ts
//   const client = await broker.connect(t, { version: 5, clientId: fresh("c"), properties: { … } });
//   client.connack.properties                                      // the CONNACK, which accepted it
//   const raw = await broker.open(t, 5);                           // a connection without CONNECT
//
// Send only (each takes the options of its builder in wire-build.ts, flags, remainingLength and tail
// among them, so that it can be made wrong; `send` takes bytes or hex, in one write):
//   client.sendConnect({ … })  sendPublish({ topic, payload, qos, packetId, retain, dup, properties })
//   sendPuback({ packetId, code, properties })  sendPubrec  sendPubrel  sendPubcomp
//   sendSubscribe({ packetId, filters: [{ filter, qos, noLocal, retainAsPublished, retainHandling }] })
//   sendUnsubscribe({ packetId, filters: ["a"] })  sendPingreq()  sendDisconnect({ code, properties })
//   sendAuth({ code, properties })  send("c0 00", bytes, …)
// Whole exchanges, for a client to which nothing else is on its way:
//   await client.publish("a", "1", { qos: 2 })    // the last acknowledgement; undefined with QoS 0
//   await client.subscribe("a/#", 1)              // the SUBACK; or [{ filter, qos, … }, …], properties
//   await client.unsubscribe("a/#")               // the UNSUBACK
//   await client.ping()                           // what was sent before it has been read
//   await client.disconnect()                     // until the broker has closed
// What comes (decoded as `Packet` in wire-read.ts; waits at most 5 s unless told otherwise):
//   await client.next()                           // the next packet, whatever it is
//   await client.expect("publish", { topic: "a", payload: "1", qos: 1, dup: false })
//   await client.take(3)                          // three PUBLISH, acknowledged to the end
//   await client.nothing()                        // fails if anything but the PINGRESP comes
//   await client.closed()                         // the packets before the end, which must come
//   client.cut()                                  // ends without DISCONNECT
//   client.pause()  client.resume()               // reads nothing in between
// Properties: by the specification's names (wire-properties.ts); `userProperty: [["k", "v"]]`,
// `subscriptionIdentifier: [1]`; an array of values repeats any other property. Text may be bytes.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import type { TestContext } from "node:test";
import {
  type AckOptions,
  ackPacket,
  authPacket,
  type CodeOptions,
  type ConnectOptions,
  connectPacket,
  disconnectPacket,
  type FilterOptions,
  hex,
  type Malformed,
  type PublishOptions,
  pingreqPacket,
  publishPacket,
  type SubscribeOptions,
  subscribePacket,
  type UnsubscribeOptions,
  unsubscribePacket,
  type Version,
} from "./wire-build.ts";
import type { Bytes, Text } from "./wire-properties.ts";
import { type Packet, type PacketName, readPacket } from "./wire-read.ts";

const WAIT_MS = 5_000;

export type Like = Partial<Omit<Packet, "name" | "bytes">>;

const run = randomBytes(3).toString("hex");
let freshCount = 0;

/** A client id or topic level that no other test uses; at most 23 characters with a short prefix. */
export function fresh(prefix = "c"): string {
  freshCount += 1;
  return `${prefix}-${run}-${freshCount}`;
}

export class WireClient {
  readonly version: Version;
  readonly #socket: Socket;
  readonly #packets: Packet[] = [];
  #unread = Buffer.alloc(0);
  #fault: unknown;
  #isClosed = false;
  #awake = Promise.withResolvers<void>();
  #connack: Packet | undefined;
  #packetId = 0;

  private constructor(socket: Socket, version: Version) {
    this.#socket = socket;
    this.version = version;
    // A reset is one way to close; `closed` tells it.
    socket.on("error", () => {});
    socket.on("close", () => {
      this.#isClosed = true;
      this.#wake();
    });
    socket.on("data", (chunk: Buffer) => this.#read(chunk));
  }

  /** A connection on which nothing was said yet; it ends with the test. */
  static async open(
    t: Pick<TestContext, "after">,
    port: number,
    version: Version = 4,
  ): Promise<WireClient> {
    const socket = connect({ port, host: "127.0.0.1", noDelay: true });
    t.after(() => {
      socket.destroy();
    });
    await once(socket, "connect");
    return new WireClient(socket, version);
  }

  /** A client that the broker has accepted; with a fresh id unless the options name one. */
  static async connect(
    t: Pick<TestContext, "after">,
    port: number,
    options: ConnectOptions = {},
  ): Promise<WireClient> {
    const client = await WireClient.open(t, port, options.version ?? 4);
    client.sendConnect({ clientId: fresh(), ...options });
    client.#connack = await client.expect("connack", { code: 0 });
    return client;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** The CONNACK that `connect` got. */
  get connack(): Packet {
    assert.ok(this.#connack, "this client was not made by connect()");
    return this.#connack;
  }

  send(...parts: (Bytes | string)[]): void {
    this.#socket.write(Buffer.concat(parts.map((it) => (typeof it === "string" ? hex(it) : it))));
  }

  sendConnect(options: ConnectOptions = {}): void {
    this.send(connectPacket({ version: this.version, ...options }));
  }

  sendPublish(options: PublishOptions): void {
    this.send(publishPacket(options, this.version));
  }

  sendPuback(options: AckOptions = {}): void {
    this.send(ackPacket("puback", options, this.version));
  }

  sendPubrec(options: AckOptions = {}): void {
    this.send(ackPacket("pubrec", options, this.version));
  }

  sendPubrel(options: AckOptions = {}): void {
    this.send(ackPacket("pubrel", options, this.version));
  }

  sendPubcomp(options: AckOptions = {}): void {
    this.send(ackPacket("pubcomp", options, this.version));
  }

  sendSubscribe(options: SubscribeOptions): void {
    this.send(subscribePacket(options, this.version));
  }

  sendUnsubscribe(options: UnsubscribeOptions): void {
    this.send(unsubscribePacket(options, this.version));
  }

  sendPingreq(options: Malformed = {}): void {
    this.send(pingreqPacket(options));
  }

  sendDisconnect(options: CodeOptions = {}): void {
    this.send(disconnectPacket(options, this.version));
  }

  sendAuth(options: CodeOptions = {}): void {
    this.send(authPacket(options));
  }

  /** Until its QoS is fulfilled; resolves with the last acknowledgement. */
  async publish(
    topic: Text,
    payload: Text = "",
    options: Omit<PublishOptions, "topic" | "payload" | "packetId"> = {},
  ): Promise<Packet | undefined> {
    const { qos = 0 } = options;
    const packetId = qos > 0 ? this.nextId() : 0;
    this.sendPublish({ topic, payload, packetId, ...options });
    if (qos === 0) return undefined;
    if (qos === 1) return this.expect("puback", { packetId });
    const pubrec = await this.expect("pubrec", { packetId });
    // A refusal ends the exchange (MQTT 5.0 §4.3.3).
    if (pubrec.code >= 0x80) return pubrec;
    this.sendPubrel({ packetId });
    return this.expect("pubcomp", { packetId });
  }

  async subscribe(
    filters: string | readonly FilterOptions[],
    qos = 0,
    options: Omit<SubscribeOptions, "filters" | "packetId"> = {},
  ): Promise<Packet> {
    const packetId = this.nextId();
    const all = typeof filters === "string" ? [{ filter: filters, qos }] : filters;
    this.sendSubscribe({ packetId, filters: all, ...options });
    return this.expect("suback", { packetId });
  }

  async unsubscribe(...filters: readonly string[]): Promise<Packet> {
    const packetId = this.nextId();
    this.sendUnsubscribe({ packetId, filters });
    return this.expect("unsuback", { packetId });
  }

  async ping(): Promise<void> {
    this.sendPingreq();
    await this.expect("pingresp");
  }

  /** Says DISCONNECT; resolves when the broker has closed, with nothing said before. */
  async disconnect(options: CodeOptions = {}): Promise<void> {
    this.sendDisconnect(options);
    assert.deepEqual(await this.closed(), []);
  }

  /** The packet id of the next exchange. */
  nextId(): number {
    this.#packetId = (this.#packetId % 65_535) + 1;
    return this.#packetId;
  }

  /** The next packet; fails when none comes, or the connection ends before. */
  async next(waitMs = WAIT_MS): Promise<Packet> {
    await this.#until("a packet", () => this.#packets.length > 0 || this.#isClosed, waitMs);
    const packet = this.#packets.shift();
    assert.ok(packet, "the broker closed the connection where a packet was expected");
    return packet;
  }

  /** The next packet, which must be of that kind and have all that `like` names. */
  async expect(name: PacketName, like: Like = {}, waitMs = WAIT_MS): Promise<Packet> {
    const packet = await this.next(waitMs);
    const { bytes, payloadBytes, ...seen } = packet;
    assert.equal(packet.name, name, `expected ${name}, came ${JSON.stringify(seen)}`);
    assert.partialDeepStrictEqual(packet, like);
    return packet;
  }

  /** The next `count` messages, each acknowledged; ends when the last exchange is over. */
  async take(count: number, waitMs = WAIT_MS): Promise<Packet[]> {
    const messages: Packet[] = [];
    const later: Packet[] = [];
    const unreleased = new Set<number>();
    while (messages.length < count || unreleased.size > 0) {
      const packet = await this.next(waitMs);
      const { name, packetId, qos } = packet;
      if (name === "pubrel") {
        assert.ok(unreleased.delete(packetId), `PUBREL for ${packetId}, which was not received`);
        this.sendPubcomp({ packetId });
      } else if (messages.length === count) {
        later.push(packet);
      } else {
        assert.equal(name, "publish", `${name} after ${messages.length} of ${count} messages`);
        messages.push(packet);
        if (qos === 1) this.sendPuback({ packetId });
        if (qos === 2) {
          unreleased.add(packetId);
          this.sendPubrec({ packetId });
        }
      }
    }
    this.#packets.unshift(...later);
    return messages;
  }

  /** Proves by a PINGREQ that the broker has nothing else to say; the connection lives. */
  async nothing(): Promise<void> {
    await this.ping();
  }

  /** Resolves when the broker has closed, with the packets that came before and were not read. */
  async closed(waitMs = WAIT_MS): Promise<Packet[]> {
    await this.#until("the broker to close", () => this.#isClosed, waitMs);
    return this.#packets.splice(0);
  }

  /** Ends the connection without a word, as a broken network does. */
  cut(): void {
    this.#socket.destroy();
  }

  /** Reads nothing, until `resume`: the broker's writes pile up. */
  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  #read(chunk: Buffer): void {
    this.#unread = Buffer.concat([this.#unread, chunk]);
    try {
      for (;;) {
        const packet = readPacket(this.#unread, this.version);
        if (!packet) break;
        this.#packets.push(packet);
        this.#unread = this.#unread.subarray(packet.bytes.length);
      }
    } catch (fault) {
      this.#fault = fault;
      this.#socket.destroy();
    }
    this.#wake();
  }

  #wake(): void {
    this.#awake.resolve();
    this.#awake = Promise.withResolvers();
  }

  /** Throws what the broker said wrong, whatever was waited for. */
  async #until(what: string, isSo: () => boolean, waitMs: number): Promise<void> {
    const end = performance.now() + waitMs;
    while (!isSo()) {
      const leftMs = end - performance.now();
      const names = this.#packets.map(({ name }) => name).join(", ") || "nothing";
      if (leftMs <= 0) assert.fail(`waited ${waitMs} ms in vain for ${what}; came: ${names}`);
      const timer = setTimeout(() => this.#wake(), leftMs);
      await this.#awake.promise;
      clearTimeout(timer);
    }
    if (this.#fault) throw this.#fault;
  }
}
