// connection: one MQTT 3.1.1 client of a load, as cheap as a socket of Node allows.
// Path: jobs → [connection] → socket. Touches: loopback sockets.

import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { BenchFailure } from "../failure.ts";
import { connectPacket, DISCONNECT, pubacks, subscribePacket } from "./packets.ts";
import { PacketScanner } from "./scanner.ts";

/** What a connection tells its owner. */
export interface ConnectionEvents {
  /** A message: its payload lies in `bytes` from `payloadAt` on, for the moment only. */
  delivered?(bytes: Buffer, payloadAt: number): void;
  /** A PUBACK for the packet id. */
  acknowledged?(packetId: number): void;
  /** The connection was lost; who does not listen to it fails. */
  lost?(): void;
}

export interface ConnectionOptions {
  readonly keepsSession?: boolean;
  /** The PEM of who signed the server's certificate: with it, TLS. */
  readonly ca?: Buffer;
}

// All sockets read into the same bytes: what is read is used up before the next one reads.
const READ_BUFFER = Buffer.allocUnsafeSlow(256 * 1024);

const CONNACK = 2;
const PUBLISH = 3;
const PUBACK = 4;
const SUBACK = 9;
/** Return codes up to this one grant that QoS [MQTT-3.9.3-2]. */
const SUBACK_QOS_MAX = 2;

/** What connections have to send is sent once a turn of the loop, so it leaves in few writes. */
export class Turn {
  readonly #waiting: (() => void)[] = [];

  /** `send` is called once, after everything has been read that is there to read. */
  add(send: () => void): void {
    if (this.#waiting.push(send) === 1) setImmediate(() => this.#run());
  }

  #run(): void {
    for (const send of this.#waiting.splice(0)) send();
  }
}

export class LoadConnection {
  readonly #socket: Socket;
  readonly #turn: Turn;
  readonly #events: ConnectionEvents;
  #acks: number[] = [];
  readonly #sendAcks = (): void => {
    const packetIds = this.#acks;
    this.#acks = [];
    this.#socket.write(pubacks(packetIds));
  };
  #isFrozen = false;
  #isClosing = false;
  /** Who waits for CONNACK or SUBACK: they come in the order in which they were asked for. */
  readonly #waiting: { resolve: () => void; reject: (failure: Error) => void }[] = [];

  private constructor(port: number, turn: Turn, events: ConnectionEvents, ca?: Buffer) {
    this.#turn = turn;
    this.#events = events;
    const scanner = new PacketScanner((bytes, start, body, end) =>
      this.#take(bytes, start, body, end),
    );
    const options = {
      port,
      host: "127.0.0.1",
      noDelay: true,
      onread: {
        buffer: READ_BUFFER,
        callback: (length: number) => {
          if (this.#isFrozen) return false;
          scanner.push(READ_BUFFER.subarray(0, length));
          return true;
        },
      },
    };
    this.#socket = ca ? connectTls({ ...options, ca }) : connect(options);
    this.#socket.on("error", (cause) => this.#lost(cause.message));
    this.#socket.on("close", () => this.#lost("closed by the broker"));
  }

  /** Resolves with the CONNACK. */
  static async open(
    port: number,
    clientId: string,
    turn: Turn,
    events: ConnectionEvents = {},
    { keepsSession = false, ca }: ConnectionOptions = {},
  ): Promise<LoadConnection> {
    const connection = new LoadConnection(port, turn, events, ca);
    await connection.#ask(connectPacket(clientId, keepsSession));
    return connection;
  }

  /** Resolves with the SUBACK. */
  subscribe(filter: string, qos: 0 | 1): Promise<void> {
    return this.#ask(subscribePacket(1, filter, qos));
  }

  /** False: the socket is full, and `onDrain` says when it no longer is. */
  send(bytes: Buffer): boolean {
    return this.#socket.write(bytes);
  }

  onDrain(send: () => void): void {
    this.#socket.on("drain", send);
  }

  /** Reads nothing any more. */
  freeze(): void {
    this.#isFrozen = true;
    this.#socket.pause();
  }

  close(): void {
    this.#isClosing = true;
    this.#socket.end(DISCONNECT);
  }

  #ask(bytes: Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#socket.write(bytes);
    });
  }

  #take(bytes: Buffer, start: number, body: number, end: number): void {
    const first = bytes[start] ?? 0;
    switch (first >> 4) {
      case PUBLISH: {
        const qos = (first >> 1) & 3;
        let at = body + 2 + bytes.readUInt16BE(body);
        if (qos > 0) {
          if (this.#acks.push(bytes.readUInt16BE(at)) === 1) this.#turn.add(this.#sendAcks);
          at += 2;
        }
        this.#events.delivered?.(bytes, at);
        break;
      }
      case PUBACK:
        this.#events.acknowledged?.(bytes.readUInt16BE(body));
        break;
      case CONNACK:
        this.#answered(bytes[end - 1] ?? 0xff, 0);
        break;
      case SUBACK:
        this.#answered(bytes[end - 1] ?? 0xff, SUBACK_QOS_MAX);
        break;
    }
  }

  #answered(code: number, codeMax: number): void {
    const asker = this.#waiting.shift();
    if (code <= codeMax) asker?.resolve();
    else asker?.reject(new BenchFailure(`the broker refused with return code ${code}`));
  }

  #lost(why: string): void {
    if (this.#isClosing) return;
    this.#isClosing = true;
    const failure = new BenchFailure(`a connection was lost: ${why}`);
    const askers = this.#waiting.splice(0);
    for (const asker of askers) asker.reject(failure);
    // Nobody waits who could be told: the load as a whole has failed. One that does not read may
    // well be cut off.
    if (askers.length > 0 || this.#isFrozen) return;
    if (!this.#events.lost) throw failure;
    this.#events.lost();
  }
}
