// device: an MQTT client that publishes 1, 2, 3 … on one topic, and knows what was acknowledged.
// Path: world, journeys → [device] → gateway. Touches: one TCP connection, again and again.
//
// Its session is kept. Cut off, it comes back and sends again, in order and before anything new,
// what has not come to its end (MQTT 5.0 §4.4), as a client must whose owner trusts acknowledgements.

import { connect, type Socket } from "node:net";
import {
  type Answer,
  connectPacket,
  publishPacket,
  pubrelPacket,
  REFUSED_FROM,
  readAnswers,
  TYPES,
  type Version,
} from "./packets.ts";

export interface DeviceOptions {
  readonly port: number;
  readonly clientId: string;
  readonly topic: string;
  /** What is sent at QoS 0 has come to its end with that. */
  readonly qos: 0 | 1 | 2;
  readonly version: Version;
  readonly retain?: boolean;
  /** How many messages it has under way at most. */
  readonly windowMax: number;
  /** How often it fills the window, by at most `burstMax` messages. */
  readonly everyMs: number;
  readonly burstMax: number;
  /** A payload is the number, and blanks up to this length. */
  readonly payloadBytes?: number;
}

/** What a message waits for. */
type Stage = "answer" | "completion";

const RECONNECT_MS = 200;
/** How long it publishes nothing new after a refusal. */
const REFUSED_MS = 200;
const PACKET_IDS = 65_535;

export class Device {
  readonly topic: string;
  readonly qos: 0 | 1 | 2;
  readonly #options: DeviceOptions;
  readonly #acknowledged = new Set<number>();
  readonly #refused = new Set<number>();
  /** Messages under way, oldest first. */
  readonly #underWay = new Map<number, Stage>();
  readonly #fillTimer: NodeJS.Timeout;
  #reconnectTimer: NodeJS.Timeout | undefined;
  #socket: Socket | undefined;
  #unread: Buffer = Buffer.alloc(0);
  #isReady = false;
  #isPaused = false;
  #hasEnded = false;
  #sent = 0;
  #quietUntilMs = 0;

  /** Connects, and publishes until it is paused. */
  constructor(options: DeviceOptions) {
    this.#options = options;
    this.topic = options.topic;
    this.qos = options.qos;
    this.#fillTimer = setInterval(() => this.#fill(), options.everyMs);
    this.#connect();
  }

  /** The last number that it has published. */
  get sent(): number {
    return this.#sent;
  }

  /** Custody was promised for these, by PUBACK or PUBREC. */
  get acknowledged(): ReadonlySet<number> {
    return this.#acknowledged;
  }

  /** These the gateway has not taken; MQTT 5.0 alone can say so. */
  get refused(): ReadonlySet<number> {
    return this.#refused;
  }

  /** Has every message come to its end? */
  get isIdle(): boolean {
    return this.#underWay.size === 0;
  }

  /** Publishes nothing more; what is under way still comes to its end. */
  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
  }

  /** Goes without a word, for good. */
  end(): void {
    this.#hasEnded = true;
    clearInterval(this.#fillTimer);
    clearTimeout(this.#reconnectTimer);
    this.#socket?.destroy();
  }

  #connect(): void {
    const { port, version, clientId } = this.#options;
    const socket = connect({ port, host: "127.0.0.1", noDelay: true });
    this.#socket = socket;
    this.#unread = Buffer.alloc(0);
    socket.on("connect", () => socket.write(connectPacket(version, clientId)));
    socket.on("data", (chunk: Buffer) => this.#read(socket, chunk));
    // The close that follows says all that counts.
    socket.on("error", () => {});
    socket.on("close", () => {
      this.#isReady = false;
      if (!this.#hasEnded) this.#reconnectTimer = setTimeout(() => this.#connect(), RECONNECT_MS);
    });
  }

  #read(socket: Socket, chunk: Buffer): void {
    const bytes = Buffer.concat([this.#unread, chunk]);
    const { answers, length } = readAnswers(bytes);
    this.#unread = bytes.subarray(length);
    for (const answer of answers) this.#handle(socket, answer);
  }

  #handle(socket: Socket, answer: Answer): void {
    const { type, packetId, code } = answer;
    if (type === TYPES.connack && code === 0) this.#begin(socket, answer.sessionPresent);
    const number = this.#numberOf(packetId);
    if (number === undefined) return;
    if (type === TYPES.pubcomp) {
      this.#underWay.delete(number);
    } else if (type === TYPES.puback || type === TYPES.pubrec) {
      this.#judge(number, code);
      if (type === TYPES.puback || code >= REFUSED_FROM) this.#underWay.delete(number);
      else this.#release(socket, number);
    }
  }

  #judge(number: number, code: number): void {
    if (code < REFUSED_FROM) this.#acknowledged.add(number);
    // One that is sent again may be refused though it was in custody already: the promise stands.
    else if (!this.#acknowledged.has(number)) this.#refused.add(number);
    if (code >= REFUSED_FROM) this.#quietUntilMs = performance.now() + REFUSED_MS;
  }

  #release(socket: Socket, number: number): void {
    this.#underWay.set(number, "completion");
    socket.write(pubrelPacket(idOf(number)));
  }

  /** The broker has taken us: what has not come to its end is sent again. */
  #begin(socket: Socket, sessionPresent: boolean): void {
    this.#isReady = true;
    for (const [number, stage] of this.#underWay) {
      if (stage === "answer") this.#send(socket, number, sessionPresent);
      else if (sessionPresent) socket.write(pubrelPacket(idOf(number)));
      // A broker that has forgotten the session holds the message, and waits for no PUBREL.
      else this.#underWay.delete(number);
    }
  }

  #fill(): void {
    if (performance.now() < this.#quietUntilMs) return;
    const { burstMax, windowMax } = this.#options;
    for (let burst = 0; burst < burstMax; burst += 1) {
      const isFull = this.#underWay.size >= windowMax;
      if (!this.#socket || !this.#isReady || this.#isPaused || isFull) return;
      this.#sent += 1;
      if (this.qos > 0) this.#underWay.set(this.#sent, "answer");
      this.#send(this.#socket, this.#sent, false);
    }
  }

  #send(socket: Socket, number: number, isAgain: boolean): void {
    const { version, topic, qos, retain = false, payloadBytes = 0 } = this.#options;
    const payload = String(number).padEnd(payloadBytes);
    const packetId = idOf(number);
    socket.write(publishPacket({ version, topic, payload, qos, retain, isAgain, packetId }));
  }

  #numberOf(packetId: number): number | undefined {
    for (const number of this.#underWay.keys()) if (idOf(number) === packetId) return number;
    return undefined;
  }
}

/** Windows are much smaller than the ids are many, so that no two under way have one. */
function idOf(number: number): number {
  return (number % PACKET_IDS) + 1;
}
