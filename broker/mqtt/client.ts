// client: one connected MQTT client, from its CONNECT to its end: what each packet of it sets off.
// Path: connection → [client] → access, session, incoming, outgoing. Touches: nothing.

import assert from "node:assert";
import { randomUUID } from "node:crypto";
import type { Duplex } from "node:stream";
import { reasonOf, SluiceError } from "#contract/errors";
import type { Message } from "#contract/message";
import type { SessionQueue, Taking } from "#contract/session";
import type { Log } from "#runtime/log";
import type { Settings } from "#runtime/settings-schema";
import type { Admission } from "./admission.ts";
import { askedBy, encodeRefusal, encodeWelcome, NO_TERMS, type Terms, termsOf } from "./connect.ts";
import { Connection, type ConnectionListener } from "./connection.ts";
import { Incoming, type IncomingCounts, type Publisher, type Refusal } from "./incoming.ts";
import { Outgoing, type OutgoingCounts, type Wire } from "./outgoing.ts";
import type { FlushTurn } from "./output.ts";
import type { PublishBytes } from "./publication.ts";
import type { Entrance, Peer } from "./reception.ts";
import type { Order } from "./routing.ts";
import type { Attached, Session } from "./session.ts";
import type { Sessions } from "./sessions.ts";
import type { Subscribing } from "./subscribing.ts";
import {
  encodeAck,
  encodeConnack,
  encodeDisconnect,
  encodeSuback,
  encodeUnsuback,
  PINGRESP,
} from "./wire/encode.ts";
import type { Gathering } from "./wire/packet-reader.ts";
import {
  type AckPacket,
  type ClientPacket,
  type ConnectPacket,
  type DisconnectPacket,
  PACKET,
  type ProtocolLevel,
  type SubscribePacket,
  type UnsubscribePacket,
} from "./wire/packets.ts";
import { REASON } from "./wire/reason-codes.ts";
import { WireError } from "./wire/wire-error.ts";

/** What a client may have sent behind a packet that is being worked on before it is read no more. */
const WAITING_PACKETS_MAX = 256;

/** What the broker is to its clients. */
export interface Host {
  readonly limits: Settings["limits"];
  /** Where clients of MQTT 5.0 are sent when this broker stops. */
  serverReference(): string | undefined;
  readonly turn: FlushTurn;
  readonly gathering: Gathering;
  readonly sessions: Sessions;
  readonly subscribing: Subscribing;
  readonly log: Log;
  readonly counts: {
    readonly incoming: IncomingCounts;
    readonly outgoing: OutgoingCounts;
    /** A connection that the broker ends, by the reason code of MQTT 5.0. */
    ended(reasonCode: number): void;
  };
  /** Why clients cannot be served now; undefined when they can. */
  unavailable(): string | undefined;
  /** Why the balancer should take clients away from here; undefined when it should not. */
  unwell(): string | undefined;
  readonly admission: Admission;
  publish(message: Message, order: Order, incoming: Taking["incoming"]): Promise<void> | undefined;
  /** A client is on its way to be ended for reading too slowly. */
  crowded(): void;
  /** The stored queue of a session that is kept. */
  queueOf(session: Session): SessionQueue;
  ended(client: Client, why: string): void;
}

/** A connected client's own parts: together they are there, or not at all. */
interface Parts {
  readonly session: Session;
  readonly incoming: Incoming;
  readonly outgoing: Outgoing;
}

export class Client implements Wire, Attached, Publisher, ConnectionListener {
  readonly peer: Peer;
  readonly #host: Host;
  readonly #entrance: Entrance;
  readonly #connection: Connection;
  #terms: Terms = NO_TERMS;
  #clientId = "";
  #parts: Parts | undefined;
  /** Its parts from CONNACK on, when it has said goodbye, too. */
  #last: Parts | undefined;
  /** While one packet is being worked on, those behind it wait. */
  #waiting: ClientPacket[] | undefined;
  /** The connection was closed while packets waited. */
  #hasClosed = false;

  constructor(stream: Duplex, peer: Peer, entrance: Entrance, host: Host) {
    this.peer = peer;
    this.#host = host;
    this.#entrance = entrance;
    this.#connection = new Connection({
      stream,
      limits: host.limits,
      turn: host.turn,
      gathering: host.gathering,
      acceptedAtMs: entrance.acceptedAtMs,
      listener: this,
    });
  }

  get clientId(): string {
    return this.#clientId;
  }

  get level(): ProtocolLevel {
    return this.#terms.level;
  }

  get receiveMaximum(): number {
    return this.#terms.receiveMaximum;
  }

  get maximumPacketBytes(): number {
    return this.#terms.maximumPacketBytes;
  }

  get topicAliasMaximum(): number {
    return this.#terms.topicAliasMaximum;
  }

  get isBlocked(): boolean {
    return this.#connection.output.isBlocked;
  }

  get isOpen(): boolean {
    return this.#connection.isOpen;
  }

  get unsentBytes(): number {
    return this.#connection.output.unsentBytes;
  }

  get waitingPackets(): number {
    return this.#connection.output.waitingPackets;
  }

  get outgoing(): Outgoing {
    return this.#connected.outgoing;
  }

  get settled(): Promise<void> | undefined {
    return this.#connected.incoming.settled;
  }

  get isKept(): boolean {
    return this.#connected.session.isKept;
  }

  get unreleased(): Set<number> {
    return this.#connected.session.unreleased;
  }

  tick(nowMs: number): void {
    this.#connection.tick(nowMs);
  }

  publishRefusal(topic: string, retain: boolean): Refusal | undefined {
    return this.#host.admission.publishRefusal(this.#connected.session, topic, retain);
  }

  take(message: Message, order: Order, incoming: Taking["incoming"]): Promise<void> | undefined {
    return this.#host.publish(message, order, incoming);
  }

  async release(packetId: number): Promise<void> {
    const { session } = this.#connected;
    if (session.isKept) await this.#host.queueOf(session).removeIncoming(packetId);
  }

  drained(): void {
    this.#parts?.outgoing.pump();
  }

  hold(isFull: boolean): void {
    if (isFull) this.#connection.hold();
    else this.#connection.release();
  }

  publish(it: PublishBytes, packetId: number, dup: boolean): void {
    this.#connection.write(it, packetId, dup);
  }

  pubrel(packetId: number, reasonCode: number): void {
    this.acknowledge(PACKET.pubrel, packetId, reasonCode);
  }

  /** Ends the connection; who speaks MQTT 5.0 and is connected hears why [MQTT-4.13.1-1]. */
  end(reasonCode: number, why: string): void {
    if (!this.isOpen) return;
    this.#host.counts.ended(reasonCode);
    const isTold = this.level === 5 && this.#parts !== undefined;
    const { code, reference } = this.#elsewhere(reasonCode);
    const lastWords = isTold
      ? this.#fitting(
          encodeDisconnect(code, {
            reasonString: why,
            ...(reference === undefined ? {} : { serverReference: reference }),
          }),
          encodeDisconnect(code, {}),
        )
      : undefined;
    this.#connection.end(why, lastWords);
    // However long the client takes to read that: what is for it goes to its queue from now on.
    this.#leave();
  }

  handle(packet: ClientPacket): void {
    if (packet.type === PACKET.publish && !this.#waiting) this.#parts?.incoming.publish(packet);
    else if (this.#waiting && !(this.#parts && overtakes(packet)))
      this.#wait(this.#waiting, packet);
    else this.#dispatch(packet);
  }

  get #connected(): Parts {
    assert(this.#last, "a client that is connected, or was");
    return this.#last;
  }

  #dispatch(packet: ClientPacket): void {
    const parts = this.#parts;
    if (packet.type === PACKET.connect) this.#awaits(() => this.#answerConnect(packet));
    else if (parts) this.#serve(parts, packet);
  }

  #serve(parts: Parts, packet: Exclude<ClientPacket, ConnectPacket>): void {
    switch (packet.type) {
      case PACKET.publish:
        parts.incoming.publish(packet);
        break;
      case PACKET.subscribe:
        this.#awaits(() => this.#subscribe(parts, packet));
        break;
      case PACKET.unsubscribe:
        this.#awaits(() => this.#unsubscribe(parts, packet));
        break;
      case PACKET.pingreq:
        this.#connection.writeBytes(PINGRESP);
        break;
      case PACKET.disconnect:
        this.#disconnect(parts, packet);
        break;
      case PACKET.auth:
        this.end(REASON.protocolError, "AUTH without an authentication method");
        break;
      case PACKET.pubrel:
        parts.incoming.pubrel(packet.packetId);
        break;
      default:
        this.#acknowledged(parts, packet);
    }
  }

  #acknowledged({ outgoing }: Parts, { type, packetId, reasonCode }: AckPacket): void {
    let fits = false;
    if (type === PACKET.puback) fits = outgoing.puback(packetId);
    else if (type === PACKET.pubrec) fits = outgoing.pubrec(packetId, reasonCode);
    else fits = outgoing.pubcomp(packetId);
    if (!fits) this.end(REASON.protocolError, `acknowledgement ${type} does not fit ${packetId}`);
  }

  /** Runs `work`; if it takes time, what the client sends meanwhile waits. */
  #awaits(work: () => Promise<void> | undefined): void {
    const working = work();
    if (!working) return;
    this.#waiting = [];
    working.catch((fault) => this.#failed(fault)).then(() => this.#goOn());
  }

  #wait(waiting: ClientPacket[], packet: ClientPacket): void {
    waiting.push(packet);
    if (waiting.length === WAITING_PACKETS_MAX) this.#connection.hold();
  }

  #goOn(): void {
    const waiting = this.#waiting ?? [];
    this.#waiting = undefined;
    if (waiting.length >= WAITING_PACKETS_MAX) this.#connection.release();
    // What came whole before the client closed the connection is served, too.
    for (const packet of waiting) if (this.isOpen || this.#hasClosed) this.handle(packet);
    if (this.#hasClosed && !this.#waiting) this.#leave();
  }

  async #answerConnect(packet: ConnectPacket): Promise<void> {
    const host = this.#host;
    const { peer } = this;
    this.#terms = termsOf(packet, host.limits);
    this.#connection.connecting(host.limits.authenticate_seconds_max);
    if (peer.proxied === "balancer") return this.#answerCheck(host.unwell() === undefined);
    const away = host.unavailable();
    // Without a CONNACK: there are clients that take any refusal for final (mqtt.js does, unless
    // told otherwise), and all of them return after a connection that broke.
    if (away !== undefined) return this.#connection.end(away);
    const refusal = await host.admission.connectRefusal(peer, packet);
    if (refusal) return this.#refuse(refusal);
    const clientId = packet.clientId || `auto-${randomUUID()}`;
    this.#clientId = clientId;
    const asked = askedBy(packet, clientId, peer, host.limits);
    // Who went away meanwhile is attached all the same: what it sent before counts.
    await host.sessions.connect(asked, (session, isPresent) =>
      this.#welcome(packet, session, isPresent),
    );
    this.#parts?.outgoing.poke();
  }

  /** The balancer's health check is answered here: it is no session. */
  #answerCheck(isWell: boolean): void {
    const reasonCode = isWell ? REASON.success : REASON.serverUnavailable;
    this.#connection.writeBytes(encodeConnack(4, { sessionPresent: false, reasonCode }));
  }

  /** A client that says nothing in time: one that has not even connected is cut. */
  silent(why: string): void {
    if (this.#parts) {
      this.end(REASON.keepAliveTimeout, why);
      return;
    }
    this.#host.counts.ended(REASON.maximumConnectTime);
    this.#connection.cut(why);
  }

  #refuse({ reasonCode, why }: Refusal): void {
    this.#host.counts.ended(reasonCode);
    const { code, reference } = this.#elsewhere(reasonCode);
    this.#connection.end(why, this.#fitting(...encodeRefusal(this.level, code, why, reference)));
  }

  /** Who finds this broker full or stopping is told of another one, if there is one (§4.11). */
  #elsewhere(reasonCode: number): { code: number; reference: string | undefined } {
    const isFull = reasonCode === REASON.quotaExceeded && this.#parts === undefined;
    const reference = this.#host.serverReference();
    if (reference === undefined || !(isFull || reasonCode === REASON.serverShuttingDown)) {
      return { code: reasonCode, reference: undefined };
    }
    return { code: REASON.useAnotherServer, reference };
  }

  #welcome(packet: ConnectPacket, session: Session, isPresent: boolean): Attached {
    const { limits, counts } = this.#host;
    this.#connection.connected(this.#terms.keepAliveSeconds);
    this.#entrance.authenticated();
    this.#parts = this.#last = {
      session,
      incoming: new Incoming(this, limits, counts.incoming),
      outgoing: new Outgoing({
        wire: this,
        limits,
        queue: session.isKept ? this.#host.queueOf(session) : undefined,
        sentUpTo: session.sentUpTo,
        subscriber: session,
        count: counts.outgoing,
        crowded: () => this.#host.crowded(),
      }),
    };
    this.#write(encodeWelcome(packet, session, isPresent, limits));
    return this;
  }

  #subscribe({ session, incoming }: Parts, packet: SubscribePacket): Promise<void> | undefined {
    const run = () =>
      this.#host.subscribing.subscribe(session, packet.subscriptions, (codes) => {
        this.#write(encodeSuback(this.level, packet.packetId, codes));
      });
    // What it published before is retained before it asks for retained messages.
    return incoming.settled ? incoming.settled.then(run) : run();
  }

  #unsubscribe({ session }: Parts, packet: UnsubscribePacket): Promise<void> | undefined {
    return this.#host.subscribing.unsubscribe(session, packet.filters, (codes) => {
      this.#write(encodeUnsuback(this.level, packet.packetId, codes));
    });
  }

  #disconnect(parts: Parts, { reasonCode, sessionExpirySeconds }: DisconnectPacket): void {
    const { session } = parts;
    if (sessionExpirySeconds !== undefined) {
      // A session that was to end with its connection cannot be kept now (MQTT 5.0 §3.14.2.2.2).
      if (!session.isLasting && sessionExpirySeconds > 0) {
        this.end(REASON.protocolError, "DISCONNECT asks to keep a session that was not to be kept");
        return;
      }
      const most = this.#host.limits.session_seconds_max;
      session.expirySeconds = Math.min(sessionExpirySeconds, most);
    }
    // Any other reason than a normal end leaves the will due [MQTT-3.14.4-3].
    const isWillDue = reasonCode !== REASON.success;
    this.#parts = undefined;
    // A goodbye counts when it cannot be forgotten any more, and only then is the connection closed.
    this.#host.sessions
      .closed(session, this, isWillDue)
      .finally(() => this.#connection.end("the client disconnected"));
  }

  acknowledge(type: AckPacket["type"], packetId: number, reasonCode: number, why?: string): void {
    const plain = encodeAck(type, this.level, packetId, reasonCode);
    const isExplained = why !== undefined && this.#terms.requestProblemInformation;
    const whole = isExplained ? encodeAck(type, this.level, packetId, reasonCode, why) : plain;
    this.#connection.writeBytes(this.#fitting(whole) ?? plain);
  }

  /** The longest form that the client takes [MQTT-3.2.2-19, 3.14.2-3]; undefined: none of them. */
  #fitting(...forms: Buffer[]): Buffer | undefined {
    return forms.find(({ length }) => length <= this.maximumPacketBytes);
  }

  /** What cannot be said in part: a client that does not take it whole is told so. */
  #write(packet: Buffer): void {
    if (this.#fitting(packet)) this.#connection.writeBytes(packet);
    else this.end(REASON.packetTooLarge, "the answer is longer than the client takes");
  }

  /** MQTT 5.0 §4.13: who is not connected yet hears it in a CONNACK, where the version has one. */
  malformed(fault: WireError): void {
    this.#host.log.debug(
      { client: this.#clientId, ip: this.peer.ip, why: fault.message },
      "no MQTT",
    );
    if (this.#parts) {
      this.end(fault.reasonCode, fault.message);
      return;
    }
    const { refusalLevel, reasonCode, message } = fault;
    this.#host.counts.ended(reasonCode);
    const [refusal] = refusalLevel ? encodeRefusal(refusalLevel, reasonCode, message) : [];
    this.#connection.end(message, refusal);
  }

  /** What was begun for a packet of the client cannot be done. */
  #failed(fault: unknown): void {
    if (!(fault instanceof WireError || fault instanceof SluiceError)) throw fault;
    const why = reasonOf(fault);
    if (fault instanceof WireError && !this.#parts)
      this.#refuse({ reasonCode: fault.reasonCode, why });
    else if (this.#parts) this.end(REASON.serverBusy, why);
    else this.#connection.end(why);
  }

  closed(why: string): void {
    this.#host.ended(this, why);
    if (this.#waiting) this.#hasClosed = true;
    else this.#leave();
  }

  #leave(): void {
    const parts = this.#parts;
    if (parts) void this.#host.sessions.closed(parts.session, this, true);
  }
}

/** Acknowledgements free what others wait for, and a PINGREQ wants to hear that we live. */
function overtakes({ type }: ClientPacket): boolean {
  return (
    type === PACKET.puback ||
    type === PACKET.pubrec ||
    type === PACKET.pubcomp ||
    type === PACKET.pingreq
  );
}
