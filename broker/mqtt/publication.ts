// publication: one message on its way to this broker's sessions, serialised once for all alike.
// Path: routing → [publication] → session → connection. Touches: nothing.

import type { Message, Qos } from "#contract/message";
import { steadyNowMs } from "#runtime/clock";
import { encodePublish } from "./wire/encode.ts";
import type { ProtocolLevel } from "./wire/packets.ts";

/** A PUBLISH as it goes out; with QoS 1 and 2 the packet id is written in at `packetIdAt`. */
export interface PublishBytes {
  readonly bytes: Buffer;
  readonly packetIdAt: number;
}

/** How one session gets the message. */
export interface Form {
  readonly qos: Qos;
  readonly retain: boolean;
  readonly subscriptionIds: readonly number[];
}

/** Two levels, three QoS, RETAIN or not. */
const COMMON_FORMS = 12;

export class Publication {
  readonly message: Message;
  /** By level (3.x or 5.0), QoS and RETAIN, for those without subscription identifiers. */
  #common: (PublishBytes | undefined)[] | undefined;
  #identified: Map<string, PublishBytes> | undefined;
  /** The Message Expiry Interval that the serialised forms say, in seconds. */
  #expirySeconds: number | undefined;

  constructor(message: Message) {
    this.message = message;
  }

  /** The whole seconds that it is of use yet; undefined: for ever [MQTT-3.3.2-6]. */
  get expirySeconds(): number | undefined {
    const { expiresAtMs } = this.message;
    return expiresAtMs === undefined
      ? undefined
      : Math.max(0, Math.ceil((expiresAtMs - steadyNowMs()) / 1_000));
  }

  get isExpired(): boolean {
    const { expiresAtMs } = this.message;
    return expiresAtMs !== undefined && expiresAtMs <= steadyNowMs();
  }

  /** The packet without DUP, which a redelivery sets in its copy. */
  bytes(level: ProtocolLevel, form: Form): PublishBytes {
    if (this.message.expiresAtMs !== undefined) this.#forgetOldExpiry();
    if (level === 5 && form.subscriptionIds.length > 0) return this.#identifiedBytes(form);
    this.#common ??= new Array<PublishBytes | undefined>(COMMON_FORMS);
    const at = (level === 5 ? COMMON_FORMS / 2 : 0) + form.qos * 2 + Number(form.retain);
    const known = this.#common[at];
    if (known) return known;
    const made = this.encode(level, form);
    this.#common[at] = made;
    return made;
  }

  /** The packet as one client alone gets it, by a topic alias of its connection. */
  encode(
    level: ProtocolLevel,
    form: Form,
    alias?: { readonly topicAlias: number; readonly topicIsKnown: boolean },
  ): PublishBytes {
    const { expirySeconds } = this;
    return encodePublish(this.message, {
      level,
      ...form,
      dup: false,
      ...(expirySeconds === undefined ? {} : { expirySeconds }),
      ...alias,
    });
  }

  #identifiedBytes(form: Form): PublishBytes {
    this.#identified ??= new Map();
    const key = `${form.qos}${form.retain}${form.subscriptionIds.join()}`;
    const known = this.#identified.get(key);
    if (known) return known;
    const made = this.encode(5, form);
    this.#identified.set(key, made);
    return made;
  }

  #forgetOldExpiry(): void {
    const seconds = this.expirySeconds;
    if (seconds === this.#expirySeconds) return;
    this.#expirySeconds = seconds;
    this.#common = undefined;
    this.#identified = undefined;
  }
}
