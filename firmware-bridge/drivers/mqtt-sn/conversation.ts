// conversation: what a client and the broker say to each other within a session: topics and messages.
// Path: client → [conversation] → broker-session, and back. Touches: the clock, by deliveries.ts.

import type { Packet as MqttPacket } from "mqtt-packet";
import type { BrokerSession } from "./broker-session.ts";
import { Deliveries } from "./deliveries.ts";
import { type Packet, RETURN_CODES } from "./packets.ts";
import { Publications } from "./publications.ts";
import type { RetryLimits } from "./retry.ts";
import { Subscribing } from "./subscribing.ts";
import { isTopicName, Topics } from "./topics.ts";

const MESSAGE_ID_MAX = 65_535;

export interface ConversationLimits extends RetryLimits {
  readonly queueMessagesMax: number;
  readonly messageBytesMax: number;
  readonly topicsMax: number;
}

export interface ConversationOptions {
  readonly limits: ConversationLimits;
  readonly predefined: ReadonlyMap<number, string>;
  /** To the device; resolves when the line took it, never rejects. */
  readonly say: (packet: Packet) => Promise<void>;
  readonly onFault: (reason: string) => void;
  /** The device did not answer what it was told. */
  readonly onUnanswered: () => void;
  /** All that the broker had is told. */
  readonly onDrained: () => void;
}

export class Conversation {
  readonly #options: ConversationOptions;
  readonly #topics: Topics;
  readonly #publications: Publications;
  readonly #subscribing: Subscribing;
  readonly #deliveries: Deliveries;
  #session: BrokerSession | undefined;

  constructor(options: ConversationOptions) {
    const { limits, predefined, say, onFault: onDropped, onUnanswered, onDrained } = options;
    const answer = (packet: Packet) => this.#say(packet);
    this.#options = options;
    this.#topics = new Topics(predefined, limits.topicsMax);
    const topics = this.#topics;
    this.#publications = new Publications({ topics, answer, onDropped });
    this.#subscribing = new Subscribing(topics, answer);
    this.#deliveries = new Deliveries({
      ...limits,
      topics,
      say,
      onDropped,
      onUnwanted: (topic) => this.#unsubscribe(topic),
      onGivenUp: onUnanswered,
      onDrained,
    });
  }

  /** On another connection to the broker, or none, what was on its way begins again. */
  use(session: BrokerSession | undefined): void {
    this.#session = session;
    this.#publications.reset();
    this.#subscribing.reset();
    this.#deliveries.reset(session);
  }

  /** The device listens. */
  resume(): void {
    this.#deliveries.resume();
  }

  /** The device does not. */
  pause(): void {
    this.#deliveries.pause();
  }

  /** A device that connects may have lost what it was told of topics (§6.10). */
  untellTopics(): void {
    this.#topics.untell();
  }

  forgetTopics(): void {
    this.#topics.clear();
  }

  /** What the device says while its session is open. */
  take(packet: Packet, session: BrokerSession): void {
    switch (packet.type) {
      case "register":
        this.#onRegister(packet);
        break;
      case "publish":
        this.#publications.publish(packet, session);
        break;
      case "pubrel":
        this.#publications.release(packet.messageId, session);
        break;
      case "subscribe":
        this.#subscribing.subscribe(packet, session);
        break;
      case "unsubscribe":
        this.#subscribing.unsubscribe(packet, session);
        break;
      default:
        this.#onAnswer(packet);
    }
  }

  /** The device's answers to what it was told. */
  #onAnswer(packet: Packet): void {
    switch (packet.type) {
      case "regack":
        this.#deliveries.onRegack(packet.messageId, packet.returnCode);
        break;
      case "puback":
        this.#onPuback(packet);
        break;
      case "pubrec":
        this.#deliveries.onPubrec(packet.messageId);
        break;
      case "pubcomp":
        this.#deliveries.onPubcomp(packet.messageId);
        break;
      default:
        this.#options.onFault(`${packet.type} is not for a gateway`);
        break;
    }
  }

  #onPuback({
    topicId,
    messageId,
    returnCode,
  }: Extract<Packet, { type: "regack" | "puback" }>): void {
    if (messageId === 0 && returnCode === RETURN_CODES.invalidTopicId) {
      this.#deliveries.onUnknownTopic(topicId);
    } else {
      this.#deliveries.onPuback(messageId, returnCode);
    }
  }

  /** What the broker says. */
  takeMqtt(packet: MqttPacket): void {
    switch (packet.cmd) {
      case "publish":
        this.#deliveries.add(packet);
        break;
      case "pubrel":
        this.#deliveries.release(packet.messageId ?? 0);
        break;
      case "puback":
        this.#publications.onPuback(packet);
        break;
      case "pubrec":
        this.#publications.onPubrec(packet, this.#session);
        break;
      case "pubcomp":
        this.#publications.onPubcomp(packet.messageId ?? 0);
        break;
      case "suback":
        this.#subscribing.onSuback(packet);
        break;
      case "unsuback":
        this.#subscribing.onUnsuback(packet.messageId ?? 0);
        break;
      default:
        break;
    }
  }

  /** §6.5: the client asks for a topic's id. */
  #onRegister({ messageId, topic }: Extract<Packet, { type: "register" }>): void {
    if (!isTopicName(topic)) {
      this.#say(regack(0, messageId, RETURN_CODES.notSupported));
      return;
    }
    const topicId = this.#topics.register(topic);
    if (topicId === undefined) {
      this.#say(regack(0, messageId, RETURN_CODES.congestion));
      return;
    }
    this.#say(regack(topicId, messageId, RETURN_CODES.accepted));
  }

  /** §6.10: a REGISTER that is rejected is as good as an UNSUBSCRIBE from that very name. */
  #unsubscribe(topic: string): void {
    let messageId = MESSAGE_ID_MAX;
    // Both hold a few only, and the client begins at the other end.
    while (this.#publications.has(messageId) || this.#subscribing.has(messageId)) messageId -= 1;
    if (this.#session) this.#subscribing.unsubscribeUnasked(topic, messageId, this.#session);
  }

  #say(packet: Packet): void {
    void this.#options.say(packet);
  }
}

function regack(topicId: number, messageId: number, returnCode: number): Packet {
  return { type: "regack", topicId, messageId, returnCode };
}
