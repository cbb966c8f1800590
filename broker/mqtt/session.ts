// session: one MQTT client's state at this broker, with its client connected or without.
// Path: connection → [session] → custody, routing. Touches: nothing.

import type { Qos } from "#contract/message";
import type { StoredSession, Subscription, Will } from "#contract/session";
import { steadyNowMs } from "#runtime/clock";
import type { Outgoing } from "./outgoing.ts";
import type { Form, Publication } from "./publication.ts";
import type { ClientRights, Identity } from "./rights.ts";
import type { Recipient } from "./routing.ts";
import type { Grant } from "./subscriptions.ts";

/** The connected client, as far as others of this broker deal with it. */
export interface Attached {
  readonly outgoing: Outgoing;
  /** Settles when all that the client published has been routed or refused. */
  readonly settled: Promise<void> | undefined;
  /** Ends the connection with a reason code of MQTT 5.0. */
  end(reasonCode: number, why: string): void;
}

/** By QoS, then RETAIN: what most deliveries look like, made once. */
const PLAIN_FORMS: readonly (readonly Form[])[] = ([0, 1, 2] as const).map((qos) =>
  [false, true].map((retain) => ({ qos, retain, subscriptionIds: [] })),
);

export class Session implements Recipient {
  readonly clientId: string;
  readonly subscriptions = new Map<string, Subscription>();
  identity: Identity;
  rights: ClientRights;
  /** Session Expiry Interval, in seconds; 0: it ends with its connection. */
  expirySeconds = 0;
  /** Are QoS 1 and 2 queued for it in the store? One that lasted until now still has its queue. */
  isKept = false;
  /** Is there a document of it in the store? */
  isStored = false;
  will: Will | undefined;
  connectedTo: string | undefined;
  wasHere = false;
  awaySinceMs: number | undefined;
  sentUpTo = 0;
  #attached: Attached | undefined;
  #unreleased: Set<number> | undefined;

  constructor(identity: Identity, rights: ClientRights) {
    this.clientId = identity.clientId;
    this.identity = identity;
    this.rights = rights;
  }

  /** Packet ids of QoS 2 messages that are in custody and not yet released by the client. */
  get unreleased(): Set<number> {
    this.#unreleased ??= new Set();
    return this.#unreleased;
  }

  /** Does it outlive its connection? */
  get isLasting(): boolean {
    return this.expirySeconds > 0;
  }

  get isHere(): boolean {
    return this.#attached !== undefined;
  }

  get isConnected(): boolean {
    return this.connectedTo !== undefined;
  }

  /** Is it a member of a shared subscription? */
  get isMember(): boolean {
    for (const filter of this.subscriptions.keys()) if (filter.startsWith("$share/")) return true;
    return false;
  }

  /** Has it been away for longer than it is kept? */
  get isExpired(): boolean {
    return !this.isConnected && this.awayMs() >= this.expirySeconds * 1_000;
  }

  /** Is there something to be done for it while its client is away: its end, or its will? */
  get isDue(): boolean {
    if (this.isConnected || this.isExpired) return true;
    return this.will !== undefined && this.awayMs() >= this.will.delaySeconds * 1_000;
  }

  get attached(): Attached | undefined {
    return this.#attached;
  }

  /** Its client is connected to this broker. */
  attach(attached: Attached, brokerId: string): void {
    this.#attached = attached;
    this.connectedTo = brokerId;
    this.wasHere = true;
    this.awaySinceMs = undefined;
  }

  /** Its client is gone from here: nothing more is sent to it. */
  detach(): void {
    this.sentUpTo = this.#attached?.outgoing.sentUpTo ?? this.sentUpTo;
    this.#attached = undefined;
    this.connectedTo = undefined;
  }

  /** For how long its client has been away. */
  awayMs(): number {
    return this.awaySinceMs === undefined ? 0 : steadyNowMs() - this.awaySinceMs;
  }

  mayReceive(topic: string): boolean {
    return this.rights.mayReceive(topic);
  }

  deliver(publication: Publication, grant: Grant<Recipient>, shared?: string): void {
    const outgoing = this.#attached?.outgoing;
    if (!outgoing) return;
    const { message } = publication;
    // The lesser of the published and the granted [MQTT-3.8.4-8].
    const qos = Math.min(message.qos, grant.qos) as Qos;
    if (qos > 0 && this.isKept) outgoing.poke();
    else if (qos > 0) outgoing.offer(publication, formOf(message.retain, grant, qos), shared);
    else outgoing.send(publication, formOf(message.retain, grant, qos));
  }

  /** As it is kept. */
  stored(): StoredSession {
    const { clientId, identity, expirySeconds, sentUpTo } = this;
    return {
      clientId,
      expirySeconds,
      sentUpTo,
      subscriptions: [...this.subscriptions.values()],
      ...(identity.user === undefined ? {} : { user: identity.user }),
      ...(identity.certificateName === undefined
        ? {}
        : { certificateName: identity.certificateName }),
      ...(this.will === undefined ? {} : { will: this.will }),
      ...(this.connectedTo === undefined ? {} : { connectedTo: this.connectedTo }),
      ...(this.awaySinceMs === undefined ? {} : { awaySinceMs: this.awaySinceMs }),
    };
  }

  /** Becomes what another broker, or an earlier life of this one, says that it is. */
  become(stored: StoredSession): void {
    this.expirySeconds = stored.expirySeconds;
    this.isKept = stored.expirySeconds > 0;
    this.isStored = this.isKept || stored.will !== undefined;
    this.will = stored.will;
    this.connectedTo = stored.connectedTo;
    this.awaySinceMs = stored.awaySinceMs;
    this.wasHere = false;
    this.sentUpTo = stored.sentUpTo;
    this.subscriptions.clear();
    for (const it of stored.subscriptions) this.subscriptions.set(it.filter, it);
  }
}

/** RETAIN is set on live messages only where the subscription asks [MQTT-3.3.1-12, 3.3.1-13]. */
function formOf(isRetained: boolean, grant: Grant<Recipient>, qos: Qos): Form {
  const retain = isRetained && grant.retainAsPublished;
  const plain = PLAIN_FORMS[qos]?.[Number(retain)];
  return plain && grant.ids.length === 0 ? plain : { qos, retain, subscriptionIds: grant.ids };
}

export function identityOf(stored: StoredSession): Identity {
  const { clientId, user, certificateName } = stored;
  return { clientId, user, certificateName };
}
