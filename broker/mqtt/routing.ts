// routing: from custody to the sessions of every broker, in the order of each publisher.
// Path: session → custody → [routing] → Aedes → the sessions here. Touches: Aedes.

import type { Aedes, PublishPacket } from "aedes";
import { SluiceError } from "#contract/errors";
import type { Message, Qos } from "#contract/message";
import { withoutCommandId } from "#contract/properties";
import type { Custody, QueueTarget, StoredSession, Taken, Taking } from "#contract/session";
import { Publication } from "./publication.ts";
import type { Entitled, Grant, Subscriber, Subscriptions } from "./subscriptions.ts";

/** The messages of one publisher, kept in order: settles when its last one was emitted or refused. */
export interface Order {
  last: Promise<void> | undefined;
  /**
   * Set by a publisher that begins anew at what failed, as ingest does: what stands behind it in
   * this order is refused with the same fault, or it would arrive before it.
   */
  readonly endsAtFault?: true;
  fault?: unknown;
}

/** What brokers of one cluster tell each other beside messages. */
export type Notice =
  | {
      readonly kind: "connect";
      readonly clientId: string;
      readonly token: string;
      readonly clean: boolean;
    }
  /** A session that is kept, or that is a member of a shared subscription. */
  | { readonly kind: "session"; readonly session: StoredSession }
  | { readonly kind: "ended"; readonly clientId: string }
  /** What a client that went to another broker had set off here is done, its will included. */
  | { readonly kind: "released"; readonly clientId: string }
  /** `broker` was taken for dead, and its connection of this client for over; so its will is out. */
  | { readonly kind: "lost"; readonly clientId: string; readonly broker: string }
  /** Whoever said it has heard, when it hears this, all that was said before. */
  | { readonly kind: "echo"; readonly token: string }
  | { readonly kind: "born" }
  /** A client cannot keep up, see Crowding. */
  | { readonly kind: "crowded" };

/** A message on the bus: for whom it is in custody, and who of each shared subscription gets it. */
interface Envelope {
  readonly message: Message;
  readonly queued: readonly string[];
  readonly chosen: readonly Chosen[];
  /** A QoS 2 repeat: whoever is connected has it already, unless it lies in a queue. */
  readonly isRepeat: boolean;
  /** Of a shared subscription that changes hands: all others have it already. */
  readonly isForChosen: boolean;
}

interface Chosen {
  readonly key: string;
  readonly clientId: string;
  /** The broker that the member's client is connected to, if it is. */
  readonly broker: string | undefined;
}

/** A subscriber that messages can be handed to. */
export interface Recipient extends Subscriber {
  readonly connectedTo: string | undefined;
  /** Was its client here when it was connected last? */
  readonly wasHere: boolean;
  deliver(publication: Publication, grant: Grant<Recipient>, shared?: string): void;
}

export interface RoutingOptions {
  readonly aedes: Aedes;
  readonly subscriptions: Subscriptions<Recipient>;
  readonly custody: Custody;
  /** Every retained message as it is routed, to be kept for later subscriptions. */
  readonly retain: (message: Message) => void;
  readonly noticed: (notice: Notice, brokerId: string) => void;
  /** A broker lives. */
  readonly heard: (brokerId: string) => void;
  readonly failed: (fault: unknown) => void;
}

const NOBODY: readonly never[] = [];
const NONE: ReadonlySet<string> = new Set();
const EMPTY = Buffer.alloc(0);
const NOTICE_TOPIC_END = "/sluice";

/** Aedes' `properties` travel with a packet as they are: by reference here, written out in a cluster. */
type BusPacket = { topic: string; properties?: { envelope?: Envelope; notice?: Notice } };

export class Routing {
  readonly #options: RoutingOptions;
  readonly #aedes: Aedes;

  constructor(options: RoutingOptions) {
    this.#options = options;
    this.#aedes = options.aedes;
  }

  /** From here on messages and notices of every broker arrive. */
  async listen(): Promise<void> {
    await new Promise<void>((resolve) =>
      this.#aedes.subscribe(
        "#",
        (packet, done) => {
          done();
          this.#arrived(packet as unknown as BusPacket);
        },
        resolve,
      ),
    );
  }

  /**
   * Takes the message into custody and hands it to all brokers. undefined: done already; otherwise
   * resolves when it is done. Emissions of one order never overtake each other. Only with `command`
   * may it say that it is one.
   * @throws what custody throws.
   */
  publish(
    given: Message,
    order: Order,
    incoming?: Taking["incoming"],
    command?: string,
  ): Promise<void> | undefined {
    if (order.fault !== undefined) return Promise.reject(order.fault);
    const message = command === undefined ? withoutCommandId(given) : given;
    const { subscriptions, custody } = this.#options;
    const entitled = subscriptions.entitled(message.topic);
    const chosen = entitled.groups.length === 0 ? NOBODY : choose(entitled, message);
    const queues = this.#queuesOf(message, entitled, chosen);
    const broker = this.#aedes.id;
    const taken = custody.take({
      message,
      queues,
      ...(incoming ? { incoming: { ...incoming, broker } } : {}),
      ...(command === undefined ? {} : { command }),
    });
    const queued = queues.length === 0 ? NOBODY : queues.map(({ clientId }) => clientId);
    const picked = chosen.length === 0 ? NOBODY : chosen.map(pick);
    const envelope = { message, queued, chosen: picked, isRepeat: false, isForChosen: false };
    if (taken === undefined && order.last === undefined) return this.#emit(envelope);
    return this.#emitInTurn(envelope, order, taken);
  }

  /**
   * One message for another member of a shared subscription: the one it was for is away or gone.
   * False: there is no other that is connected or, with `orAway`, kept.
   */
  async redispatch(
    message: Message,
    qos: 1 | 2,
    key: string,
    { except, orAway }: { except?: Subscriber; orAway: boolean },
  ): Promise<boolean> {
    const grant = this.#options.subscriptions.group(key)?.choose(message.topic, except);
    if (!grant || !(grant.subscriber.isConnected || (orAway && grant.subscriber.isKept))) {
      return false;
    }
    const lowered = { ...message, qos, retain: false };
    const queues = grant.subscriber.isKept ? targetsOf(lowered, grant, key) : NOBODY;
    await this.#options.custody.queue(lowered, queues);
    const chosen = [pick({ key, grant })];
    const queued = chosen.map(({ clientId }) => clientId);
    await this.#emit({ message: lowered, queued, chosen, isRepeat: false, isForChosen: true });
    return true;
  }

  /** Tells all brokers, this one too; undefined: done already, else it is on its way to them. */
  notify(notice: Notice): Promise<void> | undefined {
    return this.#send(`$SYS/${this.#aedes.id}${NOTICE_TOPIC_END}`, { notice });
  }

  async #emitInTurn(
    envelope: Envelope,
    order: Order,
    taken: Promise<Taken> | undefined,
  ): Promise<void> {
    const before = order.last;
    const turn = Promise.withResolvers<void>();
    order.last = turn.promise;
    let emission: Promise<void> | undefined;
    try {
      const isRepeat = (await taken) === "repeat";
      await before;
      if (order.fault !== undefined) throw order.fault;
      emission = this.#emit(isRepeat ? { ...envelope, isRepeat } : envelope);
    } catch (fault) {
      await before;
      if (order.endsAtFault) order.fault ??= fault;
      throw fault;
    } finally {
      if (order.last === turn.promise) order.last = undefined;
      turn.resolve();
    }
    await emission;
  }

  #queuesOf(
    message: Message,
    entitled: Entitled<Recipient>,
    chosen: readonly { key: string; grant: Grant<Recipient> }[],
  ): readonly QueueTarget[] {
    if (message.qos === 0) return NOBODY;
    if (!entitled.hasKept && chosen.length === 0) return NOBODY;
    const targets: QueueTarget[] = [];
    for (const all of entitled.grants) {
      if (!all.subscriber.isKept) continue;
      const grant = forPublisher(all, message);
      if (grant) targets.push(...targetsOf(message, grant));
    }
    for (const { key, grant } of chosen) {
      if (grant.subscriber.isKept) targets.push(...targetsOf(message, grant, key));
    }
    return targets;
  }

  #emit(envelope: Envelope): Promise<void> | undefined {
    return this.#send(envelope.message.topic, { envelope });
  }

  #send(topic: string, properties: BusPacket["properties"]): Promise<void> | undefined {
    const packet = {
      cmd: "publish",
      topic,
      payload: EMPTY,
      qos: 0,
      retain: false,
      dup: false,
      properties,
    } as PublishPacket;
    let isDone = false;
    let failure: Error | undefined;
    let settle: (() => void) | undefined;
    this.#aedes.publish(packet, (cause) => {
      isDone = true;
      failure = cause ?? undefined;
      settle?.();
    });
    if (isDone && !failure) return undefined;
    return new Promise((resolve, reject) => {
      settle = () => (failure ? reject(asUnreachable(failure)) : resolve());
      if (isDone) settle();
    });
  }

  #arrived({ topic, properties }: BusPacket): void {
    try {
      if (properties?.envelope) this.#deliver(properties.envelope);
      else if (properties?.notice && topic.endsWith(NOTICE_TOPIC_END)) {
        this.#options.noticed(properties.notice, brokerIn(topic));
      } else if (topic.startsWith("$SYS/") && topic.endsWith("/heartbeat")) {
        this.#options.heard(brokerIn(topic));
      }
    } catch (fault) {
      this.#options.failed(fault);
    }
  }

  #deliver({ message, queued, chosen, isRepeat, isForChosen }: Envelope): void {
    const { subscriptions, retain } = this.#options;
    if (message.retain && !isRepeat) retain(message);
    const grants = isForChosen ? NOBODY : subscriptions.entitled(message.topic).grants;
    if (grants.length === 0 && chosen.length === 0) return;
    const publication = new Publication(message);
    const held = queued.length === 0 ? NONE : new Set(queued);
    for (const all of grants) {
      const grant = forPublisher(all, message);
      if (!grant || !isOurs(grant.subscriber) || (isRepeat && !grant.subscriber.isKept)) continue;
      this.#handOver(publication, grant, held);
    }
    for (const one of chosen) this.#deliverShared(publication, one, held, isRepeat);
  }

  #deliverShared(
    publication: Publication,
    { key, clientId, broker }: Chosen,
    held: ReadonlySet<string>,
    isRepeat: boolean,
  ): void {
    const grant = this.#options.subscriptions.group(key)?.grantOf(clientId);
    const { message } = publication;
    if (grant?.subscriber.isHere) {
      if (!isRepeat || grant.subscriber.isKept) this.#handOver(publication, grant, held, key);
      return;
    }
    // Only the broker that the member was connected to knows for sure that it has gone since.
    const isLost = broker === this.#aedes.id && !grant?.subscriber.isKept && !isRepeat;
    if (!isLost || message.qos === 0) return;
    this.redispatch(message, message.qos, key, { orAway: true }).catch((fault) =>
      this.#options.failed(fault),
    );
  }

  #handOver(
    publication: Publication,
    grant: Grant<Recipient>,
    held: ReadonlySet<string>,
    shared?: string,
  ): void {
    const { subscriber, qos } = grant;
    const { message } = publication;
    const isQueued = !subscriber.isKept || qos === 0 || message.qos === 0;
    if (isQueued || held.has(subscriber.clientId)) {
      subscriber.deliver(publication, grant, shared);
      return;
    }
    // The broker that it came in by did not know of this subscription yet.
    const queues = targetsOf(message, grant, shared);
    Promise.resolve(this.#options.custody.queue(message, queues)).then(
      () => subscriber.deliver(publication, grant, shared),
      (fault) => this.#options.failed(fault),
    );
  }
}

/** Is it for this broker to see to it: is its client here, or was it when it last was anywhere? */
function isOurs({ isHere, isKept, wasHere }: Recipient): boolean {
  return isHere || (isKept && wasHere);
}

/** A publisher's own messages come back only by subscriptions without No Local [MQTT-3.8.3-3]. */
function forPublisher(
  grant: Grant<Recipient>,
  { publisher }: Message,
): Grant<Recipient> | undefined {
  return publisher !== undefined && publisher === grant.subscriber.clientId ? grant.ofOwn : grant;
}

function pick({ key, grant }: { key: string; grant: Grant<Recipient> }): Chosen {
  const { clientId, connectedTo } = grant.subscriber;
  return { key, clientId, broker: connectedTo };
}

function choose(
  { groups }: Entitled<Recipient>,
  { topic }: Message,
): { key: string; grant: Grant<Recipient> }[] {
  return groups.flatMap((group) => {
    const grant = group.choose(topic);
    return grant ? [{ key: group.key, grant }] : [];
  });
}

function targetsOf(message: Message, grant: Grant<Recipient>, shared?: string): QueueTarget[] {
  // The lesser of the two [MQTT-3.8.4-8].
  const qos = Math.min(message.qos, grant.qos) as Qos;
  if (qos === 0) return [];
  const { clientId } = grant.subscriber;
  const retain = message.retain && grant.retainAsPublished;
  const target = { clientId, qos, retain, subscriptionIds: grant.ids };
  return [shared === undefined ? target : { ...target, shared }];
}

/** The broker that speaks on `$SYS/<broker>/…`. */
function brokerIn(topic: string): string {
  return topic.split("/")[1] ?? "";
}

function asUnreachable(cause: Error): SluiceError {
  if (cause instanceof SluiceError) return cause;
  return new SluiceError("CLOUD_UNREACHABLE", `the bus refuses a message: ${cause.message}`, {
    cause,
  });
}
