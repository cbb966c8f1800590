// subscribing: SUBSCRIBE and UNSUBSCRIBE of a client, on their way to the broker and answered.
// Path: client → [subscribing] → broker-session; answers the other way. Touches: nothing.

import type { ISubackPacket } from "mqtt-packet";
import type { BrokerSession } from "./broker-session.ts";
import {
  type Packet,
  RETURN_CODES,
  type Subscribe,
  type TopicChoice,
  type Unsubscribe,
} from "./packets.ts";
import { isRefusal, returnCodeOf } from "./return-codes.ts";
import { hasWildcard, isTopicFilter, type Topics } from "./topics.ts";

/** The client waits for each answer; who asks more at once is asked to wait. */
const UNANSWERED_MAX = 16;

/** Of which topic, or an UNSUBSCRIBE, of the client or of our own. */
type Asked = Subscribed | "unsubscribe" | "unasked";

/** How messages of a topic come; id 0 where it has none, or many. */
interface Subscribed {
  readonly filter: string;
  readonly topic: TopicChoice;
  readonly topicId: number;
}

export class Subscribing {
  readonly #topics: Topics;
  readonly #answer: (packet: Packet) => void;
  /** By message id; the topic is what SUBACK will tell. */
  readonly #unanswered = new Map<number, Asked>();

  constructor(topics: Topics, answer: (packet: Packet) => void) {
    this.#topics = topics;
    this.#answer = answer;
  }

  /** On a new connection the broker has to be asked again. */
  reset(): void {
    this.#unanswered.clear();
  }

  /** Is it waiting for an answer with this message id? */
  has(messageId: number): boolean {
    return this.#unanswered.has(messageId);
  }

  subscribe(packet: Subscribe, session: BrokerSession): void {
    const { messageId, qos } = packet;
    // Said again while the broker has not answered.
    if (this.#unanswered.has(messageId)) return;
    const filter = this.#filterOf(packet);
    if (filter === undefined) {
      this.#refuse(messageId, RETURN_CODES.invalidTopicId);
      return;
    }
    if (messageId === 0 || qos < 0 || !isTopicFilter(filter)) {
      this.#refuse(messageId, RETURN_CODES.notSupported);
      return;
    }
    const topicId = this.#topicIdFor(packet, filter);
    if (topicId === undefined || this.#unanswered.size >= UNANSWERED_MAX) {
      this.#refuse(messageId, RETURN_CODES.congestion);
      return;
    }
    const granted = qos === 2 ? 2 : qos === 1 ? 1 : 0;
    const subscriptions = [{ topic: filter, qos: granted, nl: false, rap: false, rh: 0 } as const];
    if (session.send({ cmd: "subscribe", messageId, subscriptions: [...subscriptions] })) {
      this.#unanswered.set(messageId, { filter, topic: packet.topic, topicId });
    }
  }

  unsubscribe(packet: Unsubscribe, session: BrokerSession): void {
    const { messageId } = packet;
    if (this.#unanswered.has(messageId) || messageId === 0) return;
    const filter = this.#filterOf(packet);
    // UNSUBACK has no return code; what cannot be subscribed to is not (§5.4.18).
    if (filter === undefined || !isTopicFilter(filter)) {
      this.#answer({ type: "unsuback", messageId });
      return;
    }
    if (this.#unanswered.size >= UNANSWERED_MAX) return;
    if (session.send({ cmd: "unsubscribe", messageId, unsubscriptions: [filter] })) {
      this.#unanswered.set(messageId, "unsubscribe");
    }
  }

  /** The client is not told: it has said so by other means. */
  unsubscribeUnasked(filter: string, messageId: number, session: BrokerSession): void {
    if (session.send({ cmd: "unsubscribe", messageId, unsubscriptions: [filter] })) {
      this.#unanswered.set(messageId, "unasked");
    }
  }

  onSuback({ messageId = 0, granted }: ISubackPacket): void {
    const asked = this.#unanswered.get(messageId);
    if (typeof asked !== "object") return;
    this.#unanswered.delete(messageId);
    const code = Number(granted[0] ?? 0x80);
    if (isRefusal(code)) {
      this.#refuse(messageId, returnCodeOf(code));
      return;
    }
    const qos = code === 2 ? 2 : code === 1 ? 1 : 0;
    const { filter, topic, topicId } = asked;
    this.#topics.choose(filter, topic);
    this.#answer({ type: "suback", qos, topicId, messageId, returnCode: RETURN_CODES.accepted });
  }

  onUnsuback(messageId: number): void {
    const asked = this.#unanswered.get(messageId);
    this.#unanswered.delete(messageId);
    if (asked === "unsubscribe") this.#answer({ type: "unsuback", messageId });
  }

  #filterOf({ topic }: Subscribe | Unsubscribe): string | undefined {
    return topic.kind === "name" ? topic.name : this.#topics.nameOf(topic);
  }

  /** §6.9: a name gets its id with the SUBACK; wildcards, short and predefined topics need none. */
  #topicIdFor({ topic }: Subscribe, filter: string): number | undefined {
    if (topic.kind === "predefined") return topic.id;
    if (topic.kind === "short" || hasWildcard(filter)) return 0;
    return this.#topics.register(filter);
  }

  #refuse(messageId: number, returnCode: number): void {
    this.#answer({ type: "suback", qos: 0, topicId: 0, messageId, returnCode });
  }
}
