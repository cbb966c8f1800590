// deliveries: what the broker has for a client, told one after the other, and kept while it sleeps.
// Path: broker-session → [deliveries] → client's device; acknowledgements the other way. Touches: the clock, by retry.ts.
//
// The broker's packet identifier is the message id at the device. The broker hears of an
// acknowledgement only when the device has given it, so custody stays with the broker; and as it has
// at most queueMessagesMax such messages on their way, the queue here is bounded by what it was told.

import type { IPublishPacket } from "mqtt-packet";
import type { BrokerSession } from "./broker-session.ts";
import { messageOctets, type Packet, RETURN_CODES, type TopicReference } from "./packets.ts";
import { Retry, type RetryLimits } from "./retry.ts";
import type { Topics } from "./topics.ts";

const UNSPECIFIED_ERROR = 0x80;
const MESSAGE_ID_MAX = 65_535;
/** Behind MsgType, before the data of PUBLISH (§5.4.12) and the name of REGISTER (§5.4.10). */
const PUBLISH_OCTETS = 5;
const REGISTER_OCTETS = 4;

interface Delivery {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly qos: 0 | 1 | 2;
  readonly retain: boolean;
  /** The broker's; 0 for QoS 0. */
  readonly messageId: number;
  dup: boolean;
  /** As the device was told of the topic last. */
  reference?: TopicReference;
  registrationId?: number;
}

/** A QoS 2 message of an earlier connection, of which only the end is missing. */
interface Release {
  readonly release: number;
}

/** registering → publishing → (QoS 2: received → releasing); done with the acknowledgement. */
type Stage = "registering" | "publishing" | "sending" | "received" | "releasing";

export interface DeliveriesOptions extends RetryLimits {
  readonly topics: Topics;
  readonly queueMessagesMax: number;
  readonly messageBytesMax: number;
  readonly say: (packet: Packet) => Promise<void>;
  readonly onDropped: (reason: string) => void;
  /** The device will have nothing of this topic (§6.10). */
  readonly onUnwanted: (topic: string) => void;
  /** The device did not answer. */
  readonly onGivenUp: () => void;
  /** All that there was is told. */
  readonly onDrained: () => void;
}

export class Deliveries {
  readonly #options: DeliveriesOptions;
  readonly #retry: Retry;
  #session: BrokerSession | undefined;
  #queue: (Delivery | Release)[] = [];
  #current: Delivery | Release | undefined;
  #stage: Stage = "sending";
  #isListening = false;
  #lastRegistrationId = 0;

  constructor(options: DeliveriesOptions) {
    this.#options = options;
    this.#retry = new Retry(options, () => options.onGivenUp());
  }

  get size(): number {
    return this.#queue.length + (this.#current ? 1 : 0);
  }

  /** On a new connection the broker tells again what is not acknowledged; the rest is kept. */
  reset(session: BrokerSession | undefined): void {
    this.pause();
    this.#session = session;
    this.#queue = this.#queue.filter((it) => "topic" in it && it.qos === 0);
  }

  /** The device listens. */
  resume(): void {
    this.#isListening = true;
    this.#next();
  }

  /** It does not; what it has not acknowledged is told again when it does. */
  pause(): void {
    this.#isListening = false;
    this.#retry.stop();
    const current = this.#current;
    this.#current = undefined;
    // Of a message that the device has, the broker still knows, and its PUBREL is yet to come.
    if (!current || this.#stage === "received" || this.#stage === "sending") return;
    if (this.#stage === "releasing") this.#queue.unshift({ release: idOf(current) });
    else this.#queue.unshift(current);
  }

  /** From the broker. */
  add({ topic, payload, qos, retain, dup, messageId = 0 }: IPublishPacket): void {
    const delivery = {
      topic,
      payload: Buffer.from(payload as Buffer),
      qos,
      retain,
      dup,
      messageId,
    };
    const refusal = this.#refusalOf(delivery);
    if (refusal !== undefined) {
      this.#drop(delivery, refusal);
      return;
    }
    this.#queue.push(delivery);
    this.#next();
  }

  /** The broker's PUBREL. */
  release(messageId: number): void {
    const current = this.#current;
    if (current && idOf(current) === messageId && this.#stage === "received") {
      this.#release();
      return;
    }
    this.#queue.unshift({ release: messageId });
    this.#next();
  }

  onRegack(messageId: number, returnCode: number): void {
    const current = this.#publishing();
    if (!current || this.#stage !== "registering" || current.registrationId !== messageId) return;
    // Later, as at the next try of the timer.
    if (returnCode === RETURN_CODES.congestion) return;
    if (returnCode !== RETURN_CODES.accepted) {
      this.#options.onUnwanted(current.topic);
      this.#refused(current, returnCode);
      return;
    }
    this.#options.topics.tell(current.topic);
    this.#publish(current);
  }

  onPuback(messageId: number, returnCode: number): void {
    const current = this.#publishing();
    if (!current || this.#stage !== "publishing" || current.messageId !== messageId) return;
    if (returnCode === RETURN_CODES.congestion) return;
    if (returnCode === RETURN_CODES.invalidTopicId) {
      this.#registerAnew(current);
      return;
    }
    if (returnCode !== RETURN_CODES.accepted) {
      this.#refused(current, returnCode);
      return;
    }
    if (current.qos !== 1) return;
    this.#session?.send({ cmd: "puback", messageId });
    this.#finish();
  }

  /** A QoS 0 message has no acknowledgement; that its topic's id is not known can be said all the same. */
  onUnknownTopic(topicId: number): void {
    this.#options.topics.forgetId(topicId);
  }

  onPubrec(messageId: number): void {
    const isCurrent = this.#current !== undefined && idOf(this.#current) === messageId;
    if (isCurrent && this.#stage === "publishing" && this.#publishing()?.qos === 2) {
      this.#retry.stop();
      this.#stage = "received";
    } else if (isCurrent) {
      // Said again: the PUBREL is on its way, or will be said again, too.
      return;
    }
    // Also of a message of an earlier connection: the broker knows what it has to do.
    this.#session?.send({ cmd: "pubrec", messageId });
  }

  onPubcomp(messageId: number): void {
    if (!this.#current || idOf(this.#current) !== messageId || this.#stage !== "releasing") return;
    this.#session?.send({ cmd: "pubcomp", messageId });
    this.#finish();
  }

  #refusalOf({ qos, topic, payload }: Delivery): string | undefined {
    const { messageBytesMax, queueMessagesMax, topics } = this.#options;
    const isTooLong = messageOctets(PUBLISH_OCTETS + payload.length) > messageBytesMax;
    if (isTooLong || (!topics.referenceTo(topic) && !this.#canRegister(topic))) {
      return `a message of the broker is longer than ${messageBytesMax} bytes`;
    }
    const waiting = this.#queue.filter((it) => "topic" in it && it.qos === 0).length;
    if (qos > 0 || waiting < queueMessagesMax) return undefined;
    return `a message with QoS 0 is dropped: ${queueMessagesMax} wait`;
  }

  #canRegister(topic: string): boolean {
    const octets = messageOctets(REGISTER_OCTETS + Buffer.byteLength(topic));
    return octets <= this.#options.messageBytesMax;
  }

  #next(): void {
    if (!this.#isListening || this.#current) return;
    const next = this.#queue.shift();
    if (!next) {
      this.#options.onDrained();
      return;
    }
    this.#current = next;
    if ("release" in next) {
      this.#release();
      return;
    }
    if (this.#options.topics.referenceTo(next.topic)) this.#publish(next);
    else this.#register(next);
  }

  /** §6.10: the device has to know the topic's id first. */
  #register(delivery: Delivery): void {
    const { topic } = delivery;
    const topicId = this.#canRegister(topic) ? this.#options.topics.assign(topic) : undefined;
    if (topicId === undefined) {
      this.#refused(delivery, RETURN_CODES.congestion);
      return;
    }
    const messageId = (this.#lastRegistrationId % MESSAGE_ID_MAX) + 1;
    this.#lastRegistrationId = messageId;
    delivery.registrationId = messageId;
    this.#stage = "registering";
    this.#retry.start(() => {
      void this.#options.say({ type: "register", topicId, messageId, topic });
    });
  }

  #registerAnew(delivery: Delivery): void {
    const { reference, topic } = delivery;
    if (reference) this.#options.topics.forget(topic, reference);
    this.#retry.stop();
    this.#register(delivery);
  }

  #publish(delivery: Delivery): void {
    this.#retry.stop();
    const reference = this.#options.topics.referenceTo(delivery.topic);
    if (!reference) {
      this.#register(delivery);
      return;
    }
    delivery.reference = reference;
    const { qos, retain, messageId, payload: data } = delivery;
    const say = (dup: boolean) =>
      this.#options.say({ type: "publish", dup, qos, retain, topic: reference, messageId, data });
    if (qos === 0) {
      this.#stage = "sending";
      void say(false).then(() => this.#sent(delivery));
      return;
    }
    this.#stage = "publishing";
    this.#retry.start(() => {
      void say(delivery.dup);
      delivery.dup = true;
    });
  }

  /** Only now the next: the line takes no more at once. */
  #sent(delivery: Delivery): void {
    if (this.#current === delivery) this.#finish();
  }

  #release(): void {
    const current = this.#current;
    if (!current) return;
    const messageId = idOf(current);
    this.#stage = "releasing";
    this.#retry.start(() => {
      void this.#options.say({ type: "pubrel", messageId });
    });
  }

  /** The device will not have it, so neither the broker nor the next message waits for it. */
  #refused(delivery: Delivery, returnCode: number): void {
    this.#drop(delivery, `the device refuses a message with return code ${returnCode}`);
    this.#finish();
  }

  #drop({ qos, messageId }: Delivery, reason: string): void {
    this.#options.onDropped(reason);
    if (qos === 0) return;
    const cmd = qos === 1 ? "puback" : "pubrec";
    this.#session?.send({ cmd, messageId, reasonCode: UNSPECIFIED_ERROR });
  }

  #finish(): void {
    this.#retry.stop();
    this.#current = undefined;
    this.#next();
  }

  #publishing(): Delivery | undefined {
    const current = this.#current;
    return current && "topic" in current ? current : undefined;
  }
}

function idOf(it: Delivery | Release): number {
  return "release" in it ? it.release : it.messageId;
}
