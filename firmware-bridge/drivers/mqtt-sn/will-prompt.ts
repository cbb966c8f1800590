// will-prompt: asks a client that connects for its will: first the topic, then the message (§6.2).
// Path: client → [will-prompt]. Touches: the clock, by retry.ts.

import type { Will } from "./broker-session.ts";
import type { Packet, QualityOfService } from "./packets.ts";
import { Retry, type RetryLimits } from "./retry.ts";
import { isTopicName } from "./topics.ts";

/** A will as a client tells it, without its message. */
export interface WillTopic {
  readonly topic: string;
  readonly qos: QualityOfService;
  readonly retain: boolean;
}

export interface WillPromptOptions extends RetryLimits {
  readonly say: (packet: Packet) => void;
  readonly onGivenUp: () => void;
}

/** What an answer brings: the next question, a will, none, or one that cannot be. */
export type Prompted = "asking" | "refused" | { readonly will: Will | undefined };

export class WillPrompt {
  readonly #options: WillPromptOptions;
  readonly #retry: Retry;
  #topic: Omit<Will, "payload"> | undefined;

  constructor(options: WillPromptOptions) {
    this.#options = options;
    this.#retry = new Retry(options, () => options.onGivenUp());
  }

  ask(): void {
    this.#topic = undefined;
    this.#retry.start(() => this.#options.say({ type: "willtopicreq" }));
  }

  stop(): void {
    this.#retry.stop();
  }

  /** An empty WILLTOPIC is no will, and takes back the one before. */
  onTopic(will: WillTopic | undefined): Prompted {
    this.#retry.stop();
    if (!will) return { will: undefined };
    const { topic, retain } = will;
    const qos = willQosOf(will);
    if (qos === undefined) return "refused";
    this.#topic = { topic, retain, qos };
    this.#retry.start(() => this.#options.say({ type: "willmsgreq" }));
    return "asking";
  }

  onMessage(message: Uint8Array): Prompted {
    if (!this.#topic) return "asking";
    this.#retry.stop();
    return { will: { ...this.#topic, payload: message } };
  }
}

/** Undefined when MQTT could not have such a will. */
export function willQosOf({ topic, qos }: WillTopic): 0 | 1 | 2 | undefined {
  return qos === -1 || !isTopicName(topic) ? undefined : qos;
}
