// admission: what a client may do here: connect, leave a will, publish, retain.
// Path: client → [admission] → custody. Touches: nothing.

import { SluiceError } from "#contract/errors";
import type { Message } from "#contract/message";
import type { Settings } from "#runtime/settings-schema";
import type { Access } from "./access.ts";
import type { Refusal } from "./incoming.ts";
import type { Peer } from "./reception.ts";
import type { Retained } from "./retained.ts";
import type { Session } from "./session.ts";
import type { ConnectPacket } from "./wire/packets.ts";
import { REASON } from "./wire/reason-codes.ts";

export interface AdmissionOptions {
  readonly access: Access;
  readonly limits: Settings["limits"];
  readonly retained: Retained;
  /** Why this role refuses to let clients publish to the topic; undefined where it does not. */
  readonly refusal: (topic: string) => string | undefined;
}

export class Admission {
  readonly #options: AdmissionOptions;
  /** Retained messages on their way into custody: they count, or many at once would pass together. */
  readonly #underWay = { count: 0, bytes: 0 };

  constructor(options: AdmissionOptions) {
    this.#options = options;
  }

  /** Why the client may not connect; undefined when it may. */
  async connectRefusal(peer: Peer, packet: ConnectPacket): Promise<Refusal | undefined> {
    const { username, password, will, authenticationMethod, clientId } = packet;
    if (authenticationMethod !== undefined) {
      const why = `authentication method ${authenticationMethod} is not known here`;
      return { reasonCode: REASON.badAuthenticationMethod, why };
    }
    const login = { clientId, username, password };
    const refused = await this.#options.access.refusalOf(peer, login);
    if (refused !== undefined) return { reasonCode: refused, why: "login refused" };
    if (!will) return undefined;
    const identity = { clientId, user: username, certificateName: peer.certificateName };
    if (this.#options.access.rightsOf(identity).mayPublish(will.topic, will.retain)) {
      return this.#topicRefusal(will.topic);
    }
    this.#options.access.refused(peer, login, "will");
    const why = "its will is on a topic that it may not publish to";
    return { reasonCode: REASON.notAuthorized, why };
  }

  /** Why the session may not publish this; undefined when it may. */
  publishRefusal(session: Session, topic: string, retain: boolean): Refusal | undefined {
    const refusal = this.#topicRefusal(topic);
    if (refusal || session.rights.mayPublish(topic, retain)) return refusal;
    const why = `${session.clientId} may not publish to ${topic}`;
    return { reasonCode: REASON.notAuthorized, why };
  }

  /**
   * Runs `publish`; the room that the message takes among the retained ones is its own meanwhile.
   * @throws SluiceError RETAINED_FULL; what `publish` throws.
   */
  retaining(message: Message, publish: () => Promise<void> | undefined): Promise<void> | undefined {
    if (!message.retain) return publish();
    const growth = this.#options.retained.growth(message);
    if (!this.#hasRoomFor(growth)) {
      const { count, bytes } = this.#options.retained;
      const why = `${count} messages of ${bytes} bytes are retained already`;
      throw new SluiceError("RETAINED_FULL", why);
    }
    this.#reserve(growth.count, growth.bytes);
    const settled = () => this.#reserve(-growth.count, -growth.bytes);
    let done: Promise<void> | undefined;
    try {
      done = publish()?.finally(settled);
    } finally {
      if (!done) settled();
    }
    return done;
  }

  /** A will that cannot be retained any more is published all the same. */
  retainable(will: Message): Message {
    const fits = !will.retain || this.#hasRoomFor(this.#options.retained.growth(will));
    return fits ? will : { ...will, retain: false };
  }

  #topicRefusal(topic: string): Refusal | undefined {
    const { topic_bytes_max, topic_levels_max } = this.#options.limits;
    if (topic.length * 3 > topic_bytes_max && Buffer.byteLength(topic) > topic_bytes_max) {
      const why = `a topic may have ${topic_bytes_max} bytes`;
      return { reasonCode: REASON.topicNameInvalid, why };
    }
    if (topic.length >= topic_levels_max && topic.split("/").length > topic_levels_max) {
      const why = `a topic may have ${topic_levels_max} levels`;
      return { reasonCode: REASON.topicNameInvalid, why };
    }
    const why = topic.startsWith("$SYS/")
      ? "$SYS is the broker's own"
      : this.#options.refusal(topic);
    return why === undefined ? undefined : { reasonCode: REASON.notAuthorized, why };
  }

  #hasRoomFor({ count, bytes }: { count: number; bytes: number }): boolean {
    const { limits, retained } = this.#options;
    const countAfter = retained.count + this.#underWay.count + count;
    const bytesAfter = retained.bytes + this.#underWay.bytes + bytes;
    return (
      (count <= 0 || countAfter <= limits.retained_messages_max) &&
      (bytes <= 0 || bytesAfter <= limits.retained_bytes_max)
    );
  }

  #reserve(count: number, bytes: number): void {
    this.#underWay.count += count;
    this.#underWay.bytes += bytes;
  }
}
