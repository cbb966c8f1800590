// client: one connection to the broker as an MQTT 5.0 client: bytes, CONNECT, keep alive, its end.
// Path: connection → [client] → broker. Touches: the stream that it is given, the clock.
//
// Packets are joined into one write: those of a turn of the event loop or, when there was a write
// just before, of a few milliseconds. Writes are most of what a message costs. Which messages are
// sent, and sent again, is outgoing.ts' affair.

import type { Duplex } from "node:stream";
import {
  generate,
  type IConnackPacket,
  type IConnectPacket,
  type IDisconnectPacket,
  type Packet,
  parser,
  writeToStream,
} from "mqtt-packet";
import { reasonOf } from "#contract/errors";
import { REASON, reasonWords } from "./reasons.ts";

// Else it makes 65,536 small buffers at the first packet, 10 MB that nobody needs.
writeToStream.cacheNumbers = false;

const MQTT_5 = { protocolVersion: 5 } as const;
/** The looks at a connection in one time of keep alive; silent for this many more, it is dead. */
const LOOKS = 3;
const SILENT_LOOKS_MAX = 3;
/** Between two writes; what comes after a longer pause is written at once. */
const WRITE_MS_LEAST = 8;
const RECEIVE_MAXIMUM_DEFAULT = 65_535;

/** What the broker takes, by its CONNACK (MQTT 5.0 §3.2.2.3). */
export interface Terms {
  readonly sessionPresent: boolean;
  readonly receiveMaximum: number;
  readonly maximumPacketBytes: number;
}

export interface ClientOptions {
  readonly stream: Duplex;
  readonly connect: IConnectPacket & { readonly keepalive: number };
  /** From the opening of the stream to CONNACK. */
  readonly connectMsMax: number;
  readonly onWelcome: (terms: Terms) => void;
  /** Whatever comes after CONNACK, but PINGRESP and DISCONNECT. */
  readonly onPacket: (packet: Packet) => void;
  /** Told once. */
  readonly onEnd: (why: string) => void;
}

/** connecting → welcome → ended, or connecting → ended. */
export class Client {
  readonly #options: ClientOptions;
  readonly #stream: Duplex;
  #mode: "connecting" | "welcome" | "ended" = "connecting";
  #why = "the broker closed the connection";
  #unwritten: Buffer[] = [];
  #timer: NodeJS.Timeout;
  #hasSent = false;
  #writtenAtMs = 0;
  #silentLooks = 0;

  constructor(options: ClientOptions) {
    const { stream, connect, connectMsMax } = options;
    this.#options = options;
    this.#stream = stream;
    const packets = parser(MQTT_5);
    packets.on("packet", (packet) => this.#receive(packet));
    packets.on("error", (fault) => this.destroy(`the broker sent no MQTT 5.0: ${reasonOf(fault)}`));
    stream.on("data", (chunk: Buffer) => {
      this.#silentLooks = 0;
      packets.parse(chunk);
    });
    stream.on("error", (fault) => this.destroy(whyOf(fault)));
    stream.on("end", () => this.destroy(this.#why));
    stream.on("close", () => this.#end());
    this.#timer = setTimeout(
      () => this.destroy(`the broker did not answer within ${connectMsMax} ms`),
      connectMsMax,
    );
    this.send(connect);
  }

  /** Goes out with all else of this turn; @returns its length in bytes. */
  send(packet: Packet): number {
    const bytes = generate(packet, MQTT_5);
    this.write(bytes);
    return bytes.length;
  }

  write(bytes: Buffer): void {
    if (this.#unwritten.push(bytes) > 1) return;
    const sinceMs = performance.now() - this.#writtenAtMs;
    if (sinceMs >= WRITE_MS_LEAST) setImmediate(this.#flushLater);
    else setTimeout(this.#flushLater, WRITE_MS_LEAST);
  }

  /** DISCONNECT: the broker forgets the will. */
  disconnect(): void {
    this.send({ cmd: "disconnect", reasonCode: 0 });
    this.#flush();
    this.#stream.end();
  }

  /** Without DISCONNECT: the broker publishes the will. */
  destroy(why: string): void {
    if (this.#mode !== "ended") this.#why = why;
    this.#stream.destroy();
    this.#end();
  }

  readonly #flushLater = (): void => this.#flush();

  #flush(): void {
    const [first] = this.#unwritten;
    if (!first || this.#mode === "ended") return;
    const bytes = this.#unwritten.length === 1 ? first : Buffer.concat(this.#unwritten);
    this.#unwritten = [];
    this.#hasSent = true;
    this.#writtenAtMs = performance.now();
    this.#stream.write(bytes);
  }

  #receive(packet: Packet): void {
    if (this.#mode === "ended") return;
    if (packet.cmd === "disconnect") this.destroy(toldBy(packet));
    else if (this.#mode === "connecting") this.#welcome(packet);
    else if (packet.cmd !== "pingresp") this.#options.onPacket(packet);
  }

  #welcome(packet: Packet): void {
    if (packet.cmd !== "connack") {
      this.destroy(`the broker answered CONNECT with ${packet.cmd.toUpperCase()}`);
      return;
    }
    const code = packet.reasonCode ?? 0;
    if (code !== 0) {
      this.destroy(refusedBy(packet, code, this.#options.connect));
      return;
    }
    clearTimeout(this.#timer);
    this.#mode = "welcome";
    const { serverKeepAlive, receiveMaximum, maximumPacketSize } = packet.properties ?? {};
    this.#keepAlive(serverKeepAlive ?? this.#options.connect.keepalive);
    this.#options.onWelcome({
      sessionPresent: packet.sessionPresent,
      receiveMaximum: receiveMaximum ?? RECEIVE_MAXIMUM_DEFAULT,
      maximumPacketBytes: maximumPacketSize ?? Number.POSITIVE_INFINITY,
    });
  }

  /** The broker's own time goes before ours [MQTT-3.2.2-21]; 0: none. */
  #keepAlive(seconds: number): void {
    if (seconds === 0) return;
    this.#timer = setInterval(() => this.#look(), (seconds * 1_000) / LOOKS);
  }

  #look(): void {
    this.#silentLooks += 1;
    if (this.#silentLooks > SILENT_LOOKS_MAX) this.destroy("the broker is silent");
    // Something has to be sent in each time of keep alive, whatever is received [MQTT-3.1.2-20].
    else if (!this.#hasSent || this.#silentLooks > 1) this.send({ cmd: "pingreq" });
    this.#hasSent = false;
  }

  #end(): void {
    if (this.#mode === "ended") return;
    this.#mode = "ended";
    this.#unwritten = [];
    clearTimeout(this.#timer);
    this.#options.onEnd(this.#why);
  }
}

function whyOf(fault: Error): string {
  // Two addresses of one name that both fail have only a code in common.
  if (fault instanceof AggregateError && "code" in fault) return String(fault.code);
  return reasonOf(fault);
}

function toldBy({ reasonCode = 0, properties }: IDisconnectPacket): string {
  if (reasonCode === 0) return "the broker closed the connection";
  return `the broker ended it: ${reasonWords(reasonCode, properties?.reasonString)}`;
}

/** A version that is not spoken comes in MQTT 3.1.1's own words, as return code 1. */
function refusedBy({ properties }: IConnackPacket, code: number, connect: IConnectPacket): string {
  if (code < REASON.failed) return "the broker does not speak MQTT 5.0";
  const { username, clientId } = connect;
  const who = username === undefined ? "without a username" : `as user "${username}"`;
  const words = reasonWords(code, properties?.reasonString);
  return `the broker refuses client "${clientId}" ${who}: ${words}`;
}
