// site: a real gateway broker, the driver mqtt-sn before it, and devices that speak MQTT-SN by hand.
// Path: tests → [site] → driver → broker. Touches: loopback ports, a folder, a process.

import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect as connectTcp } from "node:net";
import { PassThrough } from "node:stream";
import { after } from "node:test";
import { connectAsync, type MqttClient } from "mqtt";
import { parse } from "valibot";
import type { BrokerDoor, Chunk, Datagram, Link } from "../../../../firmware-bridge/driver.ts";
import { Framer } from "../../../../firmware-bridge/drivers/mqtt-sn/framer.ts";
import { unwrap, wrap } from "../../../../firmware-bridge/drivers/mqtt-sn/frames.ts";
import { mqttSn } from "../../../../firmware-bridge/drivers/mqtt-sn/mqtt-sn.ts";
import {
  decodePacket,
  encodePacket,
  type Packet,
  type PacketType,
} from "../../../../firmware-bridge/drivers/mqtt-sn/packets.ts";
import { freePlace, startGateway } from "../../../journeys/support/gateway.ts";
import { waitFor } from "../../../support/wait-for.ts";
import { type FakeHost, fakeHost } from "../../fake-host.ts";

/** Of a test, or of the file. */
export type After = { after(finish: () => unknown): void };
type Typed<T extends PacketType, P = Packet> = P extends { readonly type: PacketType }
  ? T extends P["type"]
    ? P & { readonly type: T }
    : never
  : never;

/** A broker that runs until the tests end, and one who hears all that is published there. */
export interface Broker {
  readonly port: number;
  readonly observer: MqttClient;
  /** `topic=payload` of all so far. */
  readonly heard: string[];
  /** The payloads of one topic. */
  texts(topic: string): string[];
  publish(topic: string, payload: string, qos?: 0 | 1 | 2): Promise<void>;
  /** Breaks the connections of all devices, as a broker that restarts. */
  cut(): void;
  /** Takes no new connection until called again with false. */
  refuse(refused: boolean): void;
  readonly open: BrokerDoor["open"];
}

/** What all tests of a file share ends when the last of them has. */
export function wholeFile(): After {
  const finishes: (() => unknown)[] = [];
  after(async () => {
    for (const finish of finishes.reverse()) await finish();
  });
  return { after: (finish) => void finishes.push(finish) };
}

export async function startBroker(t: After): Promise<Broker> {
  const place = await freePlace(t);
  const gateway = startGateway(t, place);
  await waitFor("the gateway", gateway.status, 20_000);
  const port = place.mqttPort;
  const observer = await connectAsync(`mqtt://127.0.0.1:${port}`, { protocolVersion: 5 });
  t.after(() => observer.endAsync(true));
  const heard: string[] = [];
  const payloads = new Map<string, string[]>();
  observer.on("message", (topic, payload) => {
    heard.push(`${topic}=${payload}`);
    payloads.set(topic, [...(payloads.get(topic) ?? []), String(payload)]);
  });
  await observer.subscribeAsync("#", { qos: 2 });
  const sockets = new Set<ReturnType<typeof connectTcp>>();
  let isRefused = false;
  return {
    port,
    observer,
    heard,
    texts: (topic) => payloads.get(topic) ?? [],
    publish: async (topic, payload, qos = 1) => {
      await observer.publishAsync(topic, payload, { qos });
    },
    cut: () => {
      for (const socket of sockets) socket.destroy();
    },
    refuse: (refused) => {
      isRefused = refused;
    },
    // Port 1 has nobody who listens.
    open: () => {
      const socket = connectTcp(isRefused ? 1 : port, "127.0.0.1");
      sockets.add(socket);
      socket.on("close", () => sockets.delete(socket));
      return socket;
    },
  };
}

/** A device: says packets, and takes what it is told one after the other. */
export class SnDevice {
  readonly #send: (bytes: Buffer) => void;
  /** All that it was told. */
  readonly told: Packet[] = [];
  #read = 0;

  constructor(send: (bytes: Buffer) => void) {
    this.#send = send;
  }

  say(packet: Packet): void {
    this.#send(encodePacket(packet));
  }

  sayBytes(bytes: Uint8Array): void {
    this.#send(Buffer.from(bytes));
  }

  hear(message: Uint8Array): void {
    const packet = decodePacket(message);
    assert.notEqual(packet.type, "malformed");
    this.told.push(packet as Packet);
  }

  async next(expected = "a packet", mostMs = 5_000): Promise<Packet> {
    const packet = await waitFor(expected, () => this.told[this.#read], mostMs).catch((fault) => {
      throw new Error(`${fault}; told: ${this.told.map((it) => it.type)}`);
    });
    this.#read += 1;
    return packet;
  }

  /** The next packet, which must be of this type. */
  async hears<T extends PacketType>(type: T, mostMs = 5_000): Promise<Typed<T>> {
    const packet = await this.next(type, mostMs);
    assert.equal(packet.type, type, JSON.stringify(packet));
    return packet as Typed<T>;
  }

  /** Connects, and tells its will when it is asked; returns the CONNACK's code. */
  async connects(clientId: string, some: Connecting = {}): Promise<number> {
    const { will, cleanSession = true, durationSeconds = 60 } = some;
    const flags = { will: will !== undefined, cleanSession, protocolId: 1 };
    this.say({ type: "connect", ...flags, durationSeconds, clientId });
    if (will) {
      await this.hears("willtopicreq");
      this.say({ type: "willtopic", will: { qos: 1, retain: false, topic: will[0] } });
      await this.hears("willmsgreq");
      this.say({ type: "willmsg", message: Buffer.from(will[1]) });
    }
    return (await this.hears("connack")).returnCode;
  }

  async registers(topic: string, messageId = 1): Promise<number> {
    this.say({ type: "register", topicId: 0, messageId, topic });
    const { topicId, returnCode } = await this.hears("regack");
    assert.equal(returnCode, 0);
    return topicId;
  }

  async subscribes(filter: string, qos: 0 | 1 | 2 = 1, messageId = 2): Promise<number> {
    const topic = { kind: "name", name: filter } as const;
    this.say({ type: "subscribe", dup: false, qos, messageId, topic });
    const { returnCode, topicId } = await this.hears("suback");
    assert.equal(returnCode, 0);
    return topicId;
  }

  publishes(topicId: number, text: string, some: Partial<Typed<"publish">> = {}): void {
    const topic = { kind: "normal", id: topicId } as const;
    const data = Buffer.from(text);
    const plain = { dup: false, qos: 1, retain: false, messageId: 9 } as const;
    this.say({ type: "publish", topic, data, ...plain, ...some });
  }

  /** A message, with its text; it acknowledges nothing. */
  async isTold(): Promise<Typed<"publish"> & { readonly text: string }> {
    const packet = await this.hears("publish");
    return { ...packet, text: String(packet.data) };
  }

  acknowledges(packet: Typed<"publish" | "register">, returnCode = 0): void {
    const { messageId } = packet;
    const isRegister = packet.type === "register";
    const topicId = isRegister ? packet.topicId : packet.topic.id;
    this.say({ type: isRegister ? "regack" : "puback", topicId, messageId, returnCode });
  }
}

interface Connecting {
  readonly will?: readonly [topic: string, message: string];
  readonly cleanSession?: boolean;
  readonly durationSeconds?: number;
}

export interface Site {
  readonly host: FakeHost;
  readonly device: SnDevice;
  /** Another device on the same link, behind a forwarder or at an address of its own. */
  another(): Promise<SnDevice>;
  /** The link goes away. */
  unplug(): Promise<void>;
}

/** A driver with its settings, before that broker. */
function driverAt(
  broker: Pick<Broker, "open">,
  settings: Record<string, unknown>,
  some: Partial<FakeHost>,
) {
  const door = { open: broker.open, username: undefined, password: undefined };
  const host = fakeHost("box", { door, ...some });
  const values = parse(mqttSn.settings, { retry_seconds: 1, ...settings });
  return { host, driver: mqttSn.create(values, host) };
}

/** A line with a device on it; others are behind forwarders. */
export function onLine(
  t: After,
  broker: Pick<Broker, "open">,
  settings: Record<string, unknown> = {},
  some: Partial<FakeHost> = {},
): Site {
  const { host, driver } = driverAt(broker, settings, some);
  const chunks = new PassThrough({ objectMode: true });
  const push = (bytes: Buffer) =>
    void chunks.write({ bytes, receivedAtMs: Date.now() } satisfies Chunk);
  const devices = new Map([["", new SnDevice(push)]]);
  const framer = new Framer(65_535);
  const link: Link = {
    path: "/dev/box",
    baudRate: 115_200,
    readable: chunks,
    write: async (bytes) => {
      for (const framed of framer.push(bytes)) {
        const { message, encapsulation } = unwrap(framed.bytes);
        const node = Buffer.from(encapsulation?.nodeId ?? []).toString("hex");
        devices.get(node)?.hear(message);
      }
    },
  };
  const ended = driver.run(link);
  const unplug = async () => {
    chunks.end();
    await ended;
  };
  t.after(unplug);
  const another = async () => {
    const nodeId = Buffer.of(devices.size);
    const device = new SnDevice((bytes) => push(wrap(bytes, { control: 0, nodeId })));
    devices.set(nodeId.toString("hex"), device);
    return device;
  };
  return { host, device: devices.get("") as SnDevice, another, unplug };
}

/** A link of datagrams, each device with a socket of its own. */
export async function onDatagrams(
  t: After,
  broker: Pick<Broker, "open">,
  settings: Record<string, unknown> = {},
): Promise<Site> {
  const { host, driver } = driverAt(broker, settings, {});
  const socket = createSocket("udp4").bind(0, "127.0.0.1");
  await once(socket, "listening");
  const received = new PassThrough({ objectMode: true });
  socket.on("message", (bytes, { address, port }) => {
    const peer = `${address}:${port}`;
    received.write({ bytes, peer, receivedAtMs: Date.now() } satisfies Datagram);
  });
  const send = async (peer: string, bytes: Uint8Array) => {
    socket.send(bytes, Number(peer.split(":")[1]), "127.0.0.1");
  };
  const nothing = (async function* (): AsyncGenerator<Chunk> {})();
  const datagrams = { received, send };
  const link: Link = {
    path: "udp://127.0.0.1",
    baudRate: undefined,
    readable: nothing,
    write: async () => assert.fail("a datagram needs a peer"),
    datagrams,
  };
  const ended = driver.run(link);
  const unplug = async () => {
    received.end();
    await ended;
  };
  t.after(unplug);
  t.after(() => socket.close());
  const another = () => udpDevice(t, socket.address().port);
  return { host, device: await another(), another, unplug };
}

/** A device that sends its datagrams to that port, from one of its own. */
export async function udpDevice(t: After, port: number): Promise<SnDevice> {
  const socket = createSocket("udp4").bind(0, "127.0.0.1");
  await once(socket, "listening");
  t.after(() => socket.close());
  const device = new SnDevice((bytes) => socket.send(bytes, port, "127.0.0.1"));
  socket.on("message", (bytes) => device.hear(bytes));
  return device;
}
