// subscribing: SUBSCRIBE and UNSUBSCRIBE: what is granted, kept and replayed.
// Path: client → [subscribing] → access → sessions, retained. Touches: nothing.

import { reasonOf, SluiceError } from "#contract/errors";
import type { Message, Qos } from "#contract/message";
import type { Custody, Subscription } from "#contract/session";
import { assertTopicFilter } from "#contract/topics";
import { steadyNowMs } from "#runtime/clock";
import type { Settings } from "#runtime/settings-schema";
import type { Form } from "./publication.ts";
import type { Retained } from "./retained.ts";
import type { Recipient } from "./routing.ts";
import type { Attached, Session } from "./session.ts";
import type { Sessions } from "./sessions.ts";
import { bytesOf, type Subscriptions, sharedFilter } from "./subscriptions.ts";
import { REASON } from "./wire/reason-codes.ts";

export interface SubscribingOptions {
  readonly sessions: Pick<Sessions, "save" | "isCurrent">;
  readonly subscriptions: Subscriptions<Recipient>;
  readonly retained: Retained;
  readonly custody: Custody;
  readonly limits: Settings["limits"];
  /** Why this role refuses the filter; undefined where it does not. */
  readonly refusal: (filter: string) => string | undefined;
  /** A filter was not granted, by the reason code of MQTT 5.0. */
  readonly refused: (reasonCode: number) => void;
}

/** What one client may have of the room for all subscriptions. */
const SHARE_OF_ONE = 1 / 16;
/** How long retained messages are looked for before others have their turn. */
const SEARCH_MS = 5;

/** A subscription that was granted, and whether its session had none with the same filter. */
interface Granted {
  readonly subscription: Subscription;
  readonly isNew: boolean;
}

export class Subscribing {
  readonly #options: SubscribingOptions;
  #savingBytes = 0;

  constructor(options: SubscribingOptions) {
    this.#options = options;
  }

  /**
   * Grants what may be granted: `answer` gets a reason code for each filter, in order, when the
   * subscriptions count [MQTT-3.8.4-5, 3.8.4-6]; retained messages follow.
   * undefined: done already; otherwise resolves when the client's next packet may be looked at.
   */
  subscribe(
    session: Session,
    asked: readonly Subscription[],
    answer: (reasonCodes: number[]) => void,
  ): Promise<void> | undefined {
    // Of equal filters the last counts; each is answered [MQTT-3.8.4-5].
    const granted = new Map<string, Granted>();
    const before = new Map(session.subscriptions);
    let bytes = 0;
    const codes = asked.map((subscription) => {
      const { filter, qos } = subscription;
      const refused = this.#refusalOf(session, subscription, bytes);
      if (refused !== undefined) {
        this.#options.refused(refused);
        return refused;
      }
      const isNew = granted.get(filter)?.isNew ?? !session.subscriptions.has(filter);
      if (!session.subscriptions.has(filter)) bytes += bytesOf(filter);
      session.subscriptions.set(filter, subscription);
      granted.set(filter, { subscription, isNew });
      return qos;
    });
    const saved = granted.size > 0 ? this.#options.sessions.save(session) : undefined;
    const finish = () => this.#finish(session, [...granted.values()], () => answer(codes));
    if (!saved) {
      finish();
      return undefined;
    }
    return this.#whileSaving(saved, session, before, bytes).then(finish);
  }

  /** Others find the room of what is saved taken; what cannot be saved was never granted. */
  async #whileSaving(
    saved: Promise<void>,
    session: Session,
    before: ReadonlyMap<string, Subscription>,
    bytes: number,
  ): Promise<void> {
    this.#savingBytes += bytes;
    try {
      await saved;
    } catch (fault) {
      session.subscriptions.clear();
      for (const [filter, subscription] of before) session.subscriptions.set(filter, subscription);
      throw fault;
    } finally {
      this.#savingBytes -= bytes;
    }
  }

  /** As subscribe(): a reason code for each filter [MQTT-3.11.3-1]. */
  unsubscribe(
    session: Session,
    filters: readonly string[],
    answer: (reasonCodes: number[]) => void,
  ): Promise<void> | undefined {
    const codes = filters.map((filter) => {
      if (!session.subscriptions.delete(filter)) return REASON.noSubscriptionExisted;
      this.#options.subscriptions.remove(session, filter);
      return REASON.success;
    });
    const saved = codes.includes(REASON.success) ? this.#options.sessions.save(session) : undefined;
    if (saved) return saved.then(() => answer(codes));
    answer(codes);
    return undefined;
  }

  #finish(session: Session, granted: readonly Granted[], answer: () => void): void {
    // One that ended meanwhile has no subscriptions to add.
    if (!this.#options.sessions.isCurrent(session)) return;
    for (const { subscription } of granted) this.#options.subscriptions.add(session, subscription);
    answer();
    void this.#replay(session, granted);
  }

  /** The reason code of a refusal; `bytes` are taken by filters of the same packet. */
  #refusalOf(session: Session, { filter }: Subscription, bytes: number): number | undefined {
    const inner = filter.startsWith("$share/") ? innerFilter(filter) : filter;
    const { limits, refusal } = this.#options;
    if (inner === undefined || !isTopicFilter(inner)) return REASON.topicFilterInvalid;
    const isLong = Buffer.byteLength(inner) > limits.topic_bytes_max;
    const isDeep = inner.split("/").length > limits.topic_levels_max;
    if (isLong || isDeep) return REASON.topicFilterInvalid;
    if (!session.rights.maySubscribe(inner)) return REASON.notAuthorized;
    if (refusal(inner) !== undefined) return REASON.notAuthorized;
    if (session.subscriptions.has(filter)) return undefined;
    const isMany = session.subscriptions.size >= limits.subscriptions_per_client_max;
    const { subscriptions } = this.#options;
    const most = limits.subscriptions_bytes_max;
    const wanted = bytes + bytesOf(filter);
    const isLarge =
      subscriptions.bytes + this.#savingBytes + wanted > most ||
      subscriptions.bytesFor(session) + wanted > most * SHARE_OF_ONE;
    return isMany || isLarge ? REASON.quotaExceeded : undefined;
  }

  /**
   * Retained messages, by each subscription's Retain Handling (MQTT 5.0 §3.8.3.1, §3.8.4): each once,
   * at the highest QoS that it is granted [MQTT-3.3.5-1].
   */
  async #replay(session: Session, granted: readonly Granted[]): Promise<void> {
    const { attached } = session;
    const seen = new Set<string>();
    const byQos = granted
      .filter(isReplayed)
      .sort((a, b) => b.subscription.qos - a.subscription.qos);
    let sinceMs = performance.now();
    for (const { subscription } of byQos) {
      if (performance.now() - sinceMs > SEARCH_MS) {
        await new Promise((resolve) => setImmediate(resolve));
        sinceMs = performance.now();
      }
      if (!attached || session.attached !== attached) return;
      this.#replayOne(session, attached, subscription, seen);
    }
  }

  #replayOne(
    session: Session,
    attached: Attached,
    { filter, noLocal, id, qos: granted }: Subscription,
    seen: Set<string>,
  ): void {
    const subscriptionIds = id === undefined ? [] : [id];
    const direct: { message: Message; form: Form }[] = [];
    const queued: (Promise<void> | undefined)[] = [];
    for (const message of this.#options.retained.match(filter, steadyNowMs())) {
      const { topic, publisher } = message;
      const isOwn = noLocal && publisher === session.clientId;
      if (seen.has(topic) || isOwn || !session.mayReceive(topic)) continue;
      seen.add(topic);
      const qos = Math.min(message.qos, granted) as Qos;
      const form = { qos, retain: true, subscriptionIds };
      if (!session.isKept || qos === 0) direct.push({ message, form });
      // All in this turn of the event loop: what is published from now on is queued behind them.
      else {
        const target = { ...form, qos, clientId: session.clientId };
        queued.push(this.#options.custody.queue(message, [target]));
      }
    }
    attached.outgoing.replay(direct);
    if (queued.length === 0) return;
    Promise.all(queued).then(
      () => attached.outgoing.poke(),
      (fault) => attached.end(REASON.serverBusy, reasonOf(fault)),
    );
  }
}

/** Members of a shared subscription get no retained messages (MQTT 5.0 §4.8.2). */
function isReplayed({ subscription, isNew }: Granted): boolean {
  const { retainHandling, filter } = subscription;
  const isWanted = retainHandling === 0 || (retainHandling === 1 && isNew);
  return isWanted && sharedFilter(filter) === undefined;
}

/** `$share/<group>/<filter>`: the group is not empty and holds no / + or # [MQTT-4.8.2-1, 4.8.2-2]. */
function innerFilter(filter: string): string | undefined {
  return /^\$share\/[^/+#]+\/(.+)$/su.exec(filter)?.[1];
}

function isTopicFilter(text: string): boolean {
  try {
    assertTopicFilter(text);
    return true;
  } catch (fault) {
    if (!(fault instanceof SluiceError)) throw fault;
    return false;
  }
}
