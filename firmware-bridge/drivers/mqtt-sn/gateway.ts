// gateway: the MQTT-SN gateway of one link that is up: who is on it, and whose each message is.
// Path: framer or datagrams → [gateway] → client. Touches: the clock; the network, by broker-session.ts.

import type { Host } from "../../driver.ts";
import { Anonymous } from "./anonymous.ts";
import { BrokerSession, type BrokerSessionOptions } from "./broker-session.ts";
import { Client, type ClientLimits } from "./client.ts";
import type { Credentials } from "./credentials.ts";
import { type Encapsulation, unwrap, wrap } from "./frames.ts";
import {
  type Connect,
  decodePacket,
  encodePacket,
  type Packet,
  type PacketType,
  type Publish,
  RETURN_CODES,
} from "./packets.ts";
import { type MqttSnSettings, predefinedTopics } from "./settings.ts";
import type { Wills } from "./wills.ts";

/** ProtocolId of MQTT-SN 1.2 (§5.3.8). */
const PROTOCOL_ID = 0x01;

/** What no client says. */
const FROM_GATEWAYS: ReadonlySet<PacketType> = new Set([
  "connack",
  "willtopicreq",
  "willmsgreq",
  "suback",
  "unsuback",
  "pingresp",
  "willtopicresp",
  "willmsgresp",
]);

/** Ctrl of an encapsulation: all other bits are reserved (§5.5). */
const RADIUS_BITS = 0x03;

/** Sends a frame to where one came from; never rejects. */
export type Reply = (frame: Uint8Array) => Promise<void>;

/** One client's place: the line, an address, or a node behind a forwarder on either. */
interface Peer {
  readonly key: string;
  /** To the node; the radius of a broadcast is told to its forwarder, where there is one. */
  readonly say: (packet: Packet, radius?: number) => Promise<void>;
}

interface Seat {
  readonly client: Client;
  peer: Peer;
}

export interface GatewayOptions {
  readonly settings: MqttSnSettings;
  readonly host: Host;
  readonly wills: Wills;
  readonly credentials: Credentials;
  /** To all on the link, those who are not known included where it can. */
  readonly broadcast: Reply | undefined;
}

export class Gateway {
  readonly #options: GatewayOptions;
  readonly #limits: ClientLimits;
  readonly #seats = new Map<string, Seat>();
  readonly #anonymous: Anonymous;
  readonly #advertising: NodeJS.Timeout | undefined;
  #isEnded = false;
  #isInforming = false;
  /** Whose goodbye without a session was answered last. */
  #dismissed: string | undefined;

  constructor(options: GatewayOptions) {
    const { settings, host } = options;
    this.#options = options;
    this.#limits = {
      retryMs: settings.retry_seconds * 1_000,
      retriesMax: settings.retries_max,
      queueMessagesMax: settings.queue_messages_max,
      messageBytesMax: settings.message_bytes_max,
      topicsMax: settings.topics_max,
      sessionSeconds: settings.session_seconds,
    };
    this.#anonymous = new Anonymous({
      predefined: predefinedTopics(settings.predefined),
      open: () => this.#anonymousSession(),
      onFault: (reason) => host.fault(reason),
    });
    const seconds = settings.advertise_seconds;
    if (seconds > 0) {
      void this.#advertise();
      this.#advertising = setInterval(() => void this.#advertise(), seconds * 1_000);
    }
  }

  /** Takes a frame that came from `place`, a name for what `reply` reaches. */
  take(frame: Uint8Array, place: string, reply: Reply): void {
    const { message, encapsulation } = unwrap(frame);
    const packet = decodePacket(message);
    if (packet.type === "malformed") {
      this.#options.host.fault(`no MQTT-SN message: ${packet.reason}`, frame);
      return;
    }
    this.#options.host.countFrames(1);
    this.#handle(packet, peerOf(place, encapsulation, reply));
  }

  /** The link is gone, and nobody on it has said goodbye. */
  end(reason: string): void {
    this.#isEnded = true;
    clearInterval(this.#advertising);
    this.#anonymous.end();
    for (const { client } of [...this.#seats.values()]) client.cut(reason);
  }

  #handle(packet: Packet, peer: Peer): void {
    if (this.#isEnded) return;
    switch (packet.type) {
      case "searchgw":
        this.#answerSearch(packet.radius, peer);
        break;
      case "advertise":
      case "gwinfo":
        // Of other gateways.
        break;
      case "connect":
        this.#onConnect(packet, peer);
        break;
      default:
        this.#onClientPacket(packet, peer);
    }
  }

  #onClientPacket(packet: Packet, peer: Peer): void {
    if (packet.type === "pingreq") this.#follow(packet.clientId, peer);
    const seat = this.#seats.get(peer.key);
    if (seat && !isOfAnother(packet, seat)) seat.client.take(packet);
    else if (packet.type === "publish" && packet.qos === -1) this.#publishUnconnected(packet);
    else this.#dismiss(packet, peer);
  }

  /** §6.8. */
  #publishUnconnected(packet: Publish): void {
    if (this.#options.settings.publish_without_connection) this.#anonymous.publish(packet);
    else this.#options.host.fault("a PUBLISH with QoS -1 is not allowed");
  }

  /** §6.1; one answer at a time, or a line full of questions would be full of answers, too. */
  #answerSearch(radius: number, peer: Peer): void {
    if (this.#isInforming) return;
    this.#isInforming = true;
    const gatewayId = this.#options.settings.gateway_id;
    // A gateway gives no address of its own, and answers as far as it was asked (§5.4.3).
    const answer = { type: "gwinfo", gatewayId, address: new Uint8Array() } as const;
    void peer.say(answer, radius).then(() => {
      this.#isInforming = false;
    });
  }

  #onConnect(packet: Connect, peer: Peer): void {
    const refusal = this.#refusalOf(packet);
    if (refusal !== undefined) {
      this.#refuse(peer, RETURN_CODES.notSupported, refusal);
      return;
    }
    const here = this.#seats.get(peer.key);
    if (here && here.client.clientId !== packet.clientId) {
      here.client.cut("another client is in its place");
    }
    this.#followConnect(packet.clientId, peer);
    const seat = this.#seats.get(peer.key) ?? this.#seatFor(packet.clientId, peer);
    if (seat) seat.client.take(packet);
    else this.#refuse(peer, RETURN_CODES.congestion, "clients_max are there");
  }

  #refusalOf({ protocolId, clientId }: Connect): string | undefined {
    const { settings, credentials } = this.#options;
    if (protocolId !== PROTOCOL_ID) return `protocol id ${protocolId} is not MQTT-SN 1.2`;
    if (clientId === "" || /\p{Control}/u.test(clientId)) return "the client id cannot be one";
    if (settings.accept === "listed" && !credentials.isListed(clientId)) {
      return "the client is not among those of the settings";
    }
    return undefined;
  }

  #refuse(peer: Peer, returnCode: number, reason: string): void {
    this.#options.host.fault(`a CONNECT is refused: ${reason}`);
    void peer.say({ type: "connack", returnCode });
  }

  #seatFor(clientId: string, peer: Peer): Seat | undefined {
    if (this.#seats.size >= this.#options.settings.clients_max) return undefined;
    const { host, wills, settings, credentials } = this.#options;
    const seat: Seat = {
      peer,
      client: new Client({
        clientId,
        limits: this.#limits,
        predefined: predefinedTopics(settings.predefined, credentials.predefined(clientId)),
        wills,
        log: host.log,
        openSession: (some) => this.#session(some),
        say: (packet) => seat.peer.say(packet),
        onFault: (reason) => host.fault(`${clientId}: ${reason}`),
        onEnded: () => this.#seats.delete(seat.peer.key),
        onLate: (packet) => this.#handle(packet, seat.peer),
      }),
    };
    this.#seats.set(peer.key, seat);
    return seat;
  }

  #session(some: Omit<BrokerSessionOptions, "door" | "username" | "password">): BrokerSession {
    const { host, credentials } = this.#options;
    return new BrokerSession({ ...some, door: host.door, ...credentials.of(some.clientId) });
  }

  #anonymousSession(): BrokerSession {
    const { host } = this.#options;
    return new BrokerSession({
      door: host.door,
      username: host.door.username,
      password: host.door.password,
      clientId: `${host.name}-anonymous`,
      clean: true,
      sessionSeconds: 0,
      will: undefined,
      receiveMax: 1,
      packetBytesMax: this.#limits.messageBytesMax + 64,
      onPacket: () => undefined,
      onEnd: (reason) => host.log.debug({ why: reason }, "anonymous session ended"),
    });
  }

  /** A client that sleeps may have another address when it asks for its messages. */
  #follow(clientId: string | undefined, peer: Peer): void {
    if (clientId === undefined || this.#seats.has(peer.key)) return;
    const seat = this.#seatOf(clientId);
    if (seat && (seat.client.mode === "asleep" || seat.client.mode === "awake"))
      this.#move(seat, peer);
  }

  /** One that connects from elsewhere is the same client: awake again, or restarted. */
  #followConnect(clientId: string, peer: Peer): void {
    const seat = this.#seatOf(clientId);
    if (seat && seat.peer.key !== peer.key) this.#move(seat, peer);
  }

  #seatOf(clientId: string): Seat | undefined {
    for (const seat of this.#seats.values()) if (seat.client.clientId === clientId) return seat;
    return undefined;
  }

  #move(seat: Seat, peer: Peer): void {
    this.#seats.delete(seat.peer.key);
    seat.peer = peer;
    this.#seats.set(peer.key, seat);
  }

  /** Who has no session is told so; not one who says what a gateway says, as an echo does. */
  #dismiss({ type }: Packet, peer: Peer): void {
    if (type !== "disconnect") this.#options.host.fault(`${type} came without a connection`);
    const isToldAlready = type === "disconnect" && this.#dismissed === peer.key;
    if (isToldAlready || FROM_GATEWAYS.has(type)) return;
    // A goodbye that is said again was not heard (§6.12); once more is enough, or two would never end.
    this.#dismissed = type === "disconnect" ? peer.key : undefined;
    void peer.say({ type: "disconnect", durationSeconds: undefined });
  }

  /** §6.1: only while the broker can be reached. */
  async #advertise(): Promise<void> {
    const { settings, broadcast } = this.#options;
    if (!(await this.#anonymous.isAtTheBroker()) || this.#isEnded) return;
    const packet: Packet = {
      type: "advertise",
      gatewayId: settings.gateway_id,
      durationSeconds: settings.advertise_seconds,
    };
    if (broadcast) void broadcast(encodePacket(packet));
    else for (const { peer } of this.#seats.values()) void peer.say(packet);
  }
}

/** §6.14: PINGREQ says which client it is of; the others are of whoever is in their place. */
function isOfAnother(packet: Packet, { client }: Seat): boolean {
  return packet.type === "pingreq" && (packet.clientId ?? client.clientId) !== client.clientId;
}

function peerOf(place: string, encapsulation: Encapsulation | undefined, reply: Reply): Peer {
  if (!encapsulation) return { key: place, say: (packet) => reply(encodePacket(packet)) };
  const node = Buffer.from(encapsulation.nodeId).toString("hex");
  const say = (packet: Packet, radius = 0) => {
    return reply(wrap(encodePacket(packet), { ...encapsulation, control: radius & RADIUS_BITS }));
  };
  return { key: `${place} node ${node}`, say };
}
