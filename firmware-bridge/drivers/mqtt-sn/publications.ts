// publications: what a client publishes, on its way to the broker.
// Path: client → [publications] → broker-session; acknowledgements the other way. Touches: nothing.
//
// The client's message id is the packet identifier at the broker. So a message that is repeated
// after anything at all, a new connection or a restart of this process, is the same message to the
// broker, and QoS 2 stays "once". An acknowledgement goes to the client when the broker's is there.

import type { IPubackPacket } from "mqtt-packet";
import type { BrokerSession } from "./broker-session.ts";
import { type Packet, type Publish, RETURN_CODES } from "./packets.ts";
import { isRefusal, returnCodeOf } from "./return-codes.ts";
import { isTopicName, type Topics } from "./topics.ts";

/** §6.6 allows one; who has more on their way is asked to wait. */
const UNFINISHED_MAX = 16;

/**
 * QoS 2: published → received → released; QoS 1 stays published. Any → abandoned, when the device
 * has another message with its id: then it is brought to its end without a word to the device.
 */
interface Unfinished {
  readonly packet: Publish;
  state: "published" | "received" | "released" | "abandoned";
}

export interface PublicationsOptions {
  readonly topics: Topics;
  readonly answer: (packet: Packet) => void;
  readonly onDropped: (reason: string) => void;
}

export class Publications {
  readonly #options: PublicationsOptions;
  readonly #unfinished = new Map<number, Unfinished>();

  constructor(options: PublicationsOptions) {
    this.#options = options;
  }

  /** On a new connection the broker has to be told again. */
  reset(): void {
    this.#unfinished.clear();
  }

  /** Is a message with this id on its way? */
  has(messageId: number): boolean {
    return this.#unfinished.has(messageId);
  }

  publish(packet: Publish, session: BrokerSession): void {
    const topic = this.#options.topics.nameOf(packet.topic);
    // §6.6: an id that is not known is told for every QoS; −1 has no answer (§6.8).
    if (topic === undefined || !isTopicName(topic)) {
      this.#refuse(packet, RETURN_CODES.invalidTopicId);
      return;
    }
    const tooLarge = !session.fits(Buffer.byteLength(topic) + packet.data.length);
    if (tooLarge || packet.qos > session.qosMax) {
      this.#refuse(packet, RETURN_CODES.notSupported);
      return;
    }
    if (packet.qos < 1) this.#forward(packet, topic, session, 0);
    else this.#publishWithId(packet, topic, session, packet.qos === 1 ? 1 : 2);
  }

  release(messageId: number, session: BrokerSession): void {
    const known = this.#unfinished.get(messageId);
    // Said again: the broker has it, and will answer, or it comes to its end by itself.
    if (known?.state === "released" || known?.state === "abandoned") return;
    if (messageId === 0) return;
    // Unknown here, it may be known to the broker from an earlier connection.
    const sent = session.send({ cmd: "pubrel", messageId });
    if (known && sent) known.state = "released";
  }

  onPuback({ messageId = 0, reasonCode }: IPubackPacket): void {
    const known = this.#unfinished.get(messageId);
    if (!known) return;
    this.#unfinished.delete(messageId);
    if (known.state === "abandoned") return;
    const { id: topicId } = known.packet.topic;
    const returnCode = returnCodeOf(reasonCode);
    this.#options.answer({ type: "puback", topicId, messageId, returnCode });
  }

  onPubrec(
    { messageId = 0, reasonCode }: Pick<IPubackPacket, "messageId" | "reasonCode">,
    session: BrokerSession | undefined,
  ): void {
    const known = this.#unfinished.get(messageId);
    if (!known) return;
    // A refusal ends the exchange [MQTT 5.0, §4.3.3]; PUBREC has no room for it, PUBACK has.
    if (isRefusal(reasonCode)) {
      this.onPuback({ cmd: "puback", messageId, reasonCode: reasonCode ?? 0 });
      return;
    }
    if (known.state === "abandoned") {
      session?.send({ cmd: "pubrel", messageId });
      return;
    }
    known.state = "received";
    this.#options.answer({ type: "pubrec", messageId });
  }

  onPubcomp(messageId: number): void {
    const known = this.#unfinished.get(messageId);
    this.#unfinished.delete(messageId);
    if (known?.state !== "abandoned") this.#options.answer({ type: "pubcomp", messageId });
  }

  #publishWithId(packet: Publish, topic: string, session: BrokerSession, qos: 1 | 2): void {
    const { messageId } = packet;
    // [MQTT-2.2.1-3] has no identifier 0.
    if (messageId === 0) {
      this.#refuse(packet, RETURN_CODES.notSupported);
      return;
    }
    const known = this.#unfinished.get(messageId);
    if (known) {
      if (isSame(known.packet, packet)) this.#repeated(messageId, known);
      else this.#reused(packet, known, session);
      return;
    }
    if (!this.#hasRoom(session)) {
      this.#refuse(packet, RETURN_CODES.congestion);
      return;
    }
    if (!this.#forward(packet, topic, session, qos)) return;
    this.#unfinished.set(messageId, { packet, state: "published" });
  }

  /** What the broker has, and the device has not released, it may have given up: that makes room. */
  #hasRoom({ receiveMax }: BrokerSession): boolean {
    if (this.#unfinished.size < Math.min(UNFINISHED_MAX, receiveMax)) return true;
    for (const [messageId, { state }] of this.#unfinished) {
      if (state === "received") return this.#unfinished.delete(messageId);
    }
    return false;
  }

  /** The broker has it already, and MQTT does not repeat on one connection [MQTT-4.4.0-1]. */
  #repeated(messageId: number, known: Unfinished): void {
    if (known.state === "received") this.#options.answer({ type: "pubrec", messageId });
  }

  /** To the broker it would be the last message again; that one the device has given up. */
  #reused(packet: Publish, known: Unfinished, session: BrokerSession): void {
    const { messageId } = packet;
    const isReleased = known.state !== "received" || session.send({ cmd: "pubrel", messageId });
    if (isReleased) known.state = "abandoned";
    this.#refuse(packet, RETURN_CODES.congestion);
  }

  #forward(packet: Publish, topic: string, session: BrokerSession, qos: 0 | 1 | 2): boolean {
    const { dup, retain, messageId, data } = packet;
    const payload = Buffer.from(data);
    const id = qos > 0 ? { messageId } : {};
    const sent = session.send({
      cmd: "publish",
      topic,
      payload,
      qos,
      retain,
      dup: qos > 0 && dup,
      ...id,
    });
    if (!sent) this.#options.onDropped("a PUBLISH came while the broker takes none");
    return sent;
  }

  #refuse({ qos, topic, messageId }: Publish, returnCode: number): void {
    this.#options.onDropped(`a PUBLISH is refused with return code ${returnCode}`);
    if (qos !== -1)
      this.#options.answer({ type: "puback", topicId: topic.id, messageId, returnCode });
  }
}

function isSame(one: Publish, other: Publish): boolean {
  const isSameTopic = one.topic.id === other.topic.id && one.topic.kind === other.topic.kind;
  return isSameTopic && one.qos === other.qos && Buffer.compare(one.data, other.data) === 0;
}
