// broker-session: one connection to the broker, for one MQTT-SN client, in MQTT 5.
// Path: client → [broker-session] → broker. Touches: the network, by the host's door; the clock.
//
// Nothing is kept here: packet identifiers are the client's message ids on its way, and the
// broker's on the other, so what the broker and the client know of a message is all there is.

import type { Duplex } from "node:stream";
import { type IConnackPacket, type Packet, parser, writeToStream } from "mqtt-packet";
import { reasonOf } from "#contract/errors";
import { wait } from "#runtime/backoff";
import type { BrokerDoor } from "../../driver.ts";

const LIMITS = {
  connectMsMax: 8_000,
  closeMsMax: 1_000,
  keepAliveSeconds: 60,
  /** Not yet taken by the broker; what a client publishes beyond is not acknowledged. */
  unsentBytesMax: 262_144,
  /** The same, with answers, which nobody would say again; beyond, the broker is as good as gone. */
  unansweredBytesMax: 327_680,
} as const;

const MQTT_5 = { protocolVersion: 5 } as const;
const RECEIVE_MAXIMUM_UNSAID = 65_535;
const UNREACHABLE = 0x88;

export interface Will {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly qos: 0 | 1 | 2;
  readonly retain: boolean;
}

export interface BrokerSessionOptions {
  readonly door: BrokerDoor;
  readonly clientId: string;
  readonly username: string | undefined;
  readonly password: string | undefined;
  /** Begin anew, whatever the broker holds of this client. */
  readonly clean: boolean;
  /** For how long the broker keeps the session when the connection ends. */
  readonly sessionSeconds: number;
  readonly will: Will | undefined;
  /** Messages with an acknowledgement that the broker may have on their way to us. */
  readonly receiveMax: number;
  readonly packetBytesMax: number;
  readonly onPacket: (packet: Packet) => void;
  /** Not after `close` or `cut`. */
  readonly onEnd: (reason: string) => void;
}

/** What a broker said to CONNECT. */
export interface Welcome {
  /** MQTT 5 reason code; 0 when the session is open. */
  readonly reasonCode: number;
  readonly sessionPresent: boolean;
  readonly reason: string;
}

/** opening → open → ended; ended is final. */
export class BrokerSession {
  readonly #options: BrokerSessionOptions;
  readonly #stream: Duplex;
  readonly #closed: Promise<void>;
  #welcomed: ((welcome: Welcome) => void) | undefined;
  #limits: NonNullable<IConnackPacket["properties"]> = {};
  #pinging: NodeJS.Timeout | undefined;
  #pongPending = false;
  #why = "the broker closed the connection";
  #isEnded = false;
  #isOpen = false;

  constructor(options: BrokerSessionOptions) {
    this.#options = options;
    this.#stream = options.door.open();
    this.#closed = new Promise((resolve) => {
      this.#stream.once("close", () => {
        this.#onClosed();
        resolve();
      });
    });
    this.#stream.on("error", (fault) => {
      this.#why = reasonOf(fault);
    });
    // A broker that closes its half has nothing more to say.
    this.#stream.on("end", () => this.#stream.destroy());
    this.#read();
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Messages with an acknowledgement that the broker lets us have on their way to it. */
  get receiveMax(): number {
    return this.#limits.receiveMaximum ?? RECEIVE_MAXIMUM_UNSAID;
  }

  get qosMax(): number {
    return this.#limits.maximumQoS ?? 2;
  }

  /** Does the broker take packets with so much topic and payload? */
  fits(bytes: number): boolean {
    // A PUBLISH has at most 5 bytes of header, and 5 for lengths and identifier.
    return bytes + 10 <= (this.#limits.maximumPacketSize ?? Number.POSITIVE_INFINITY);
  }

  /** Resolves with the broker's answer, or with why there is none; never rejects. */
  async connect(): Promise<Welcome> {
    if (this.#isEnded) return { reasonCode: UNREACHABLE, sessionPresent: false, reason: this.#why };
    const welcome = new Promise<Welcome>((resolve) => {
      this.#welcomed = resolve;
    });
    const { clientId, clean, username, password, will, sessionSeconds } = this.#options;
    const { receiveMax, packetBytesMax } = this.#options;
    this.#write({
      cmd: "connect",
      protocolId: "MQTT",
      protocolVersion: 5,
      clientId,
      clean,
      keepalive: LIMITS.keepAliveSeconds,
      ...(username !== undefined && { username }),
      ...(password !== undefined && { password: Buffer.from(password) }),
      ...(will && { will: { ...will, payload: Buffer.from(will.payload) } }),
      properties: {
        sessionExpiryInterval: sessionSeconds,
        receiveMaximum: receiveMax,
        maximumPacketSize: packetBytesMax,
      },
    });
    const late = setTimeout(() => this.#fail("the broker does not answer"), LIMITS.connectMsMax);
    return welcome.finally(() => clearTimeout(late));
  }

  /** False when the broker cannot be told, or is too far behind to take another PUBLISH. */
  send(packet: Packet): boolean {
    const { writableLength } = this.#stream;
    if (!this.#isOpen) return false;
    if (packet.cmd === "publish" && writableLength > LIMITS.unsentBytesMax) return false;
    if (writableLength > LIMITS.unansweredBytesMax) {
      this.#fail("the broker takes nothing");
      return false;
    }
    this.#write(packet);
    return true;
  }

  /** Says goodbye, so that the will is not published; `forget` ends the session, too. */
  async close(forget: boolean): Promise<void> {
    const wasOpen = this.#isOpen;
    this.#end();
    if (!wasOpen) {
      this.#stream.destroy();
      return;
    }
    // 0x00: a normal end, for which the will is dropped [MQTT-3.14.4-3].
    const properties = forget ? { sessionExpiryInterval: 0 } : {};
    this.#write({ cmd: "disconnect", reasonCode: 0, properties });
    this.#stream.end();
    await Promise.race([this.#closed, wait(LIMITS.closeMsMax)]);
    this.#stream.destroy();
  }

  /** Ends without a goodbye: the broker publishes the will [MQTT-3.1.2-8]. */
  cut(): void {
    this.#end();
    this.#stream.destroy();
  }

  #read(): void {
    const packets = parser(MQTT_5);
    packets.on("packet", (packet) => this.#onPacket(packet));
    packets.on("error", (fault) => this.#fail(`not MQTT: ${reasonOf(fault)}`));
    this.#stream.on("data", (chunk: Buffer) => packets.parse(chunk));
  }

  #onPacket(packet: Packet): void {
    if (this.#isEnded) return;
    if (packet.cmd === "connack") this.#onConnack(packet);
    else if (packet.cmd === "pingresp") this.#pongPending = false;
    else if (packet.cmd === "disconnect") this.#fail(disconnected(packet.reasonCode));
    else this.#options.onPacket(packet);
  }

  #onConnack(packet: IConnackPacket): void {
    // A broker that knows no MQTT 5 answers in the older form [MQTT-3.1.4-1].
    const reasonCode = packet.reasonCode ?? packet.returnCode ?? UNREACHABLE;
    const { sessionPresent, properties } = packet;
    const { reasonString = `the broker says 0x${reasonCode.toString(16)}` } = properties ?? {};
    if (reasonCode === 0) {
      this.#limits = properties ?? {};
      this.#isOpen = true;
      // The broker's own wish goes before ours [MQTT-3.2.2-21].
      const { serverKeepAlive = LIMITS.keepAliveSeconds } = this.#limits;
      // Twice in that time, so that one that is late is not too late; 0 asks for none.
      if (serverKeepAlive > 0) {
        this.#pinging = setInterval(() => this.#ping(), serverKeepAlive * 500);
      }
    }
    this.#welcome({ reasonCode, sessionPresent, reason: reasonString });
    if (reasonCode !== 0) this.cut();
  }

  #welcome(welcome: Welcome): void {
    this.#welcomed?.(welcome);
    this.#welcomed = undefined;
  }

  /** [MQTT-3.1.2-22] asks for a sign of life; an answer that does not come ends the connection. */
  #ping(): void {
    if (this.#pongPending) {
      this.#fail("the broker does not answer");
      return;
    }
    this.#pongPending = true;
    this.#write({ cmd: "pingreq" });
  }

  #fail(why: string): void {
    this.#why = why;
    this.#stream.destroy();
  }

  #write(packet: Packet): void {
    writeToStream(packet, this.#stream, MQTT_5);
  }

  #onClosed(): void {
    if (this.#isEnded) return;
    const wasOpen = this.#isOpen;
    this.#end();
    if (wasOpen) this.#options.onEnd(this.#why);
  }

  #end(): void {
    this.#isEnded = true;
    this.#isOpen = false;
    clearInterval(this.#pinging);
    this.#welcome({ reasonCode: UNREACHABLE, sessionPresent: false, reason: this.#why });
  }
}

/** 0x8E: another connection has the client id now [MQTT-3.1.4-3]. */
const SESSION_TAKEN_OVER = 0x8e;
export const TAKEN_OVER = "another connection has the client id now";

function disconnected(reasonCode: number | undefined): string {
  if (reasonCode === SESSION_TAKEN_OVER) return TAKEN_OVER;
  return `the broker disconnects with 0x${(reasonCode ?? 0).toString(16)}`;
}
