// sessions: all sessions that this broker knows: who connects, who takes over, who is away, who ends.
// Path: client, notices → [sessions] → claims, aftermath. Touches: the store that it is given.

import type { SessionQueue, SessionStore, StoredSession, Will } from "#contract/session";
import { wait } from "#runtime/backoff";
import { steadyNowMs } from "#runtime/clock";
import type { Settings } from "#runtime/settings-schema";
import { type Aftermath, isMoved } from "./aftermath.ts";
import type { Brokers } from "./brokers.ts";
import type { Claims } from "./claims.ts";
import type { ClientRights, Identity } from "./rights.ts";
import type { Recipient, Routing } from "./routing.ts";
import { type Attached, identityOf, Session } from "./session.ts";
import type { Subscriptions } from "./subscriptions.ts";
import { REASON } from "./wire/reason-codes.ts";
import { WireError } from "./wire/wire-error.ts";

/** How long a CONNECT waits for the broker of the client's last connection. */
const RELEASE_MS_MAX = 1_000;
/** How many sessions are brought up to date at once. */
const LOST_AT_ONCE = 256;

export interface SessionsOptions {
  readonly brokerId: string;
  readonly store: SessionStore;
  readonly routing: Routing;
  readonly subscriptions: Subscriptions<Recipient>;
  readonly brokers: Brokers;
  readonly claims: Claims;
  readonly aftermath: Aftermath;
  readonly limits: Settings["limits"];
  readonly rightsOf: (identity: Identity) => ClientRights;
}

/** What a CONNECT asks for, of a client that may have it. */
export interface Asked {
  readonly identity: Identity;
  readonly clean: boolean;
  readonly expirySeconds: number;
  readonly will: Will | undefined;
}

export class Sessions {
  readonly #options: SessionsOptions;
  readonly #byId = new Map<string, Session>();
  readonly #aftermath: Aftermath;
  /** What was learnt of sessions while they are read anew is newer than what is read. */
  readonly #touched = new Set<Set<string>>();
  /** Sessions on their way in, which count. */
  #entering = 0;

  constructor(options: SessionsOptions) {
    this.#options = options;
    this.#aftermath = options.aftermath;
  }

  get count(): number {
    return this.#byId.size;
  }

  get connected(): number {
    let count = 0;
    for (const session of this.#byId.values()) count += Number(session.isHere);
    return count;
  }

  /** What the client that has most of it has not acknowledged. */
  get inFlightMost(): number {
    let most = 0;
    for (const { attached } of this.#byId.values()) {
      most = Math.max(most, attached?.outgoing.inFlightCount ?? 0);
    }
    return most;
  }

  /** Reads what is kept. Connections that an earlier life of this broker left open are over. */
  async open(): Promise<void> {
    const { brokerId } = this.#options;
    await this.readAnew();
    const open = this.connectedTo(brokerId).filter(({ isHere }) => !isHere);
    for (let at = 0; at < open.length; at += LOST_AT_ONCE) {
      const some = open.slice(at, at + LOST_AT_ONCE);
      await Promise.all(some.map((session) => this.#aftermath.lost(session, brokerId)));
    }
  }

  /** Reads what is kept: at the start, and when other brokers may have said what passed us by. */
  async readAnew(): Promise<void> {
    const touched = new Set<string>();
    const kept = new Set<string>();
    this.#touched.add(touched);
    try {
      for await (const stored of this.#options.store.sessions()) {
        kept.add(stored.clientId);
        if (!touched.has(stored.clientId)) this.learn(stored);
      }
    } finally {
      this.#touched.delete(touched);
    }
    for (const { clientId, isKept, isHere } of [...this.#byId.values()]) {
      if (isKept && !isHere && !kept.has(clientId) && !touched.has(clientId)) this.forget(clientId);
    }
  }

  /** Something newer is known of the session than what is being read. */
  touch(clientId: string): void {
    for (const touched of this.#touched) touched.add(clientId);
  }

  /** Resolves when all that ended connections left behind is done. */
  close(): Promise<void> {
    return this.#aftermath.close();
  }

  /** Asks every session's rights anew: the settings have changed. */
  judgeAnew(): void {
    for (const session of this.#byId.values()) {
      session.rights = this.#options.rightsOf(session.identity);
    }
    this.#options.subscriptions.forget();
  }

  /**
   * Gives a client that connects its session of before, or a new one, and attaches it. Of several
   * CONNECTs with one client id, at whatever brokers, the last on the bus wins [MQTT-3.1.4-2].
   * @throws WireError sessionTakenOver, quotaExceeded; SluiceError of the store.
   */
  async connect(
    asked: Asked,
    attach: (session: Session, isPresent: boolean) => Attached,
  ): Promise<void> {
    const { clientId } = asked.identity;
    const { claims } = this.#options;
    const released = this.#expectRelease(clientId);
    const token = await claims.claim(clientId, asked.clean);
    try {
      await this.#aftermath.settling(clientId);
      const known = await this.#resume(asked, released);
      const session = known ?? this.#create(asked.identity);
      this.#entering += 1;
      await this.#adopt(session, asked).finally(() => {
        this.#entering -= 1;
      });
      if (!claims.isNewest(clientId, token)) {
        throw new WireError(REASON.sessionTakenOver, "another connection has this client id");
      }
      session.attach(attach(session, known !== undefined), this.#options.brokerId);
      this.#byId.set(clientId, session);
      this.#aftermath.unwatch(session);
    } catch (fault) {
      await this.#leaveAway(clientId, token);
      // Who has won waits for this broker to have done with the client.
      await this.#options.routing.notify({ kind: "released", clientId });
      throw fault;
    } finally {
      claims.end(clientId, token);
    }
  }

  /** The session's subscriptions have changed: keeps them, and tells the other brokers. */
  save(session: Session): Promise<void> | undefined {
    return session.isKept || session.isMember ? this.#saveHere(session) : undefined;
  }

  async #saveHere(session: Session): Promise<void> {
    try {
      await this.#aftermath.save(session, this.#options.brokerId);
    } catch (fault) {
      if (!isMoved(fault)) throw fault;
      await this.#options.claims.hearAll();
      if (!session.isHere) throw fault;
      // Of CONNECTs that came at once, one that has lost was written last.
      await this.#aftermath.save(session);
    }
  }

  get(clientId: string): Session | undefined {
    return this.#byId.get(clientId);
  }

  /** Those whose clients are connected to that broker. */
  connectedTo(broker: string): Session[] {
    return [...this.#byId.values()].filter((session) => session.connectedTo === broker);
  }

  /** Is this the session of its client id, and not one that has ended? */
  isCurrent(session: Session): boolean {
    return this.#byId.get(session.clientId) === session;
  }

  /**
   * The connection of a session is over. `isWillDue`: it did not end by a DISCONNECT that forbids the
   * will [MQTT-3.1.2-8, 3.1.2-10]. Resolves when nothing of that can be forgotten any more.
   */
  async closed(session: Session, attached: Attached, isWillDue: boolean): Promise<void> {
    if (session.attached !== attached) return;
    session.detach();
    session.awaySinceMs = steadyNowMs();
    const shared = attached.outgoing.end();
    if (!isWillDue) session.will = undefined;
    await this.#aftermath.settle(session, async () => {
      await attached.settled;
      await this.#aftermath.goAway(session);
      await this.#aftermath.handOverShared(session, shared);
    });
  }

  /**
   * The old connection is over; the session goes on at the new one, or ends. `isOurs`: the new one is
   * at this broker, too.
   */
  takeOver(session: Session, attached: Attached, clean: boolean, isOurs: boolean): void {
    session.detach();
    session.awaySinceMs = steadyNowMs();
    const shared = attached.outgoing.end();
    attached.end(REASON.sessionTakenOver, "another connection has this client id");
    const { will } = session;
    // A will that is delayed is not published when the session goes on in time [MQTT-3.1.3-9].
    const isWillDue = !(session.isLasting && !clean && will && will.delaySeconds > 0);
    session.will = undefined;
    const { clientId } = session;
    if (!session.isLasting) this.forget(clientId);
    void this.#aftermath.settle(session, async () => {
      await attached.settled;
      if (will && isWillDue) await this.#aftermath.publishWill(will, session.rights);
      if (!isOurs) await this.#options.routing.notify({ kind: "released", clientId });
      // Another broker's connection has to do with the document from now on.
      else if (session.isStored && !session.isLasting) {
        await this.#aftermath.unstore(session, this.#options.brokerId);
      }
      if (!session.isLasting) await this.#aftermath.handOverShared(session, shared);
    });
  }

  /** A CONNECT failed on its way in: unless another one follows, the session's client is away. */
  async #leaveAway(clientId: string, token: string): Promise<void> {
    const session = this.#byId.get(clientId);
    if (!session || session.isHere || !this.#options.claims.isNewest(clientId, token)) return;
    session.connectedTo = undefined;
    session.awaySinceMs ??= steadyNowMs();
    await this.#aftermath.settle(session, () => this.#aftermath.goAway(session));
  }

  async #resume(
    { identity, clean }: Asked,
    released: Promise<void> | undefined,
  ): Promise<Session | undefined> {
    const known = this.#byId.get(identity.clientId) ?? (await this.#find(identity.clientId));
    if (!known) return undefined;
    if (known.connectedTo !== undefined) {
      // At another broker, which sees to its will unless it has died unnoticed; all that is in the
      // queue may have been sent.
      this.#owe(known, clean);
      await Promise.race([released, wait(RELEASE_MS_MAX)]);
      if (known.isKept) known.sentUpTo = await this.#queueOf(known).newest();
    }
    if (!clean && known.isLasting && !known.isExpired) return known;
    await this.#aftermath.end(known);
    return undefined;
  }

  /** One that another broker keeps and has told of while nothing could be heard. */
  async #find(clientId: string): Promise<Session | undefined> {
    if (this.#options.brokers.isAlone) return undefined;
    const stored = await this.#options.store.load(clientId);
    if (stored) this.learn(stored);
    return this.#byId.get(clientId);
  }

  /** Resolves when another broker has done with the client's connection there, if there is one. */
  #expectRelease(clientId: string): Promise<void> | undefined {
    const connectedTo = this.#byId.get(clientId)?.connectedTo;
    if (connectedTo === undefined || connectedTo === this.#options.brokerId) return undefined;
    return this.#options.claims.awaitRelease(clientId);
  }

  /** A will that the broker of the last connection publishes, or this one when that has died. */
  #owe(known: Session, clean: boolean): void {
    const { will, clientId, connectedTo, rights } = known;
    known.will = undefined;
    const isWillDue = will && !(known.isLasting && !clean && will.delaySeconds > 0);
    if (isWillDue && connectedTo) {
      this.#options.claims.owe({ clientId, will, rights, broker: connectedTo });
    }
  }

  #create(identity: Identity): Session {
    if (this.#byId.size + this.#entering >= this.#options.limits.sessions_max) {
      throw new WireError(REASON.quotaExceeded, `${this.#byId.size} sessions are here already`);
    }
    return new Session(identity, this.#options.rightsOf(identity));
  }

  async #adopt(session: Session, asked: Asked): Promise<void> {
    const wasKept = session.isKept;
    this.#options.claims.adopt(session.clientId);
    const { user, certificateName } = session.identity;
    const isSame =
      user === asked.identity.user && certificateName === asked.identity.certificateName;
    session.identity = asked.identity;
    session.rights = this.#options.rightsOf(asked.identity);
    session.expirySeconds = asked.expirySeconds;
    // What is queued for it is its client's for as long as the connection lasts [MQTT-4.1.0-1].
    session.isKept = wasKept || session.isLasting;
    session.will = asked.will;
    if (wasKept) {
      for (const id of await this.#queueOf(session).incoming()) session.unreleased.add(id);
    }
    const isOther = !isSame || wasKept !== session.isKept;
    if (isOther && session.subscriptions.size > 0) this.#options.subscriptions.forget();
    session.connectedTo = this.#options.brokerId;
    session.awaySinceMs = undefined;
    if (session.isKept || session.will) await this.#aftermath.save(session);
    else if (session.isStored) await this.#aftermath.unstore(session);
  }

  #queueOf({ clientId }: Session): SessionQueue {
    return this.#options.store.queue(clientId);
  }

  /** Takes in a session that another broker has, or that was kept, unless its client is here. */
  learn(stored: StoredSession): void {
    const { subscriptions, rightsOf, brokerId } = this.#options;
    const identity = identityOf(stored);
    const session = this.#byId.get(stored.clientId) ?? new Session(identity, rightsOf(identity));
    if (session.isHere) return;
    session.identity = identity;
    session.rights = rightsOf(identity);
    session.become(stored);
    this.#byId.set(stored.clientId, session);
    subscriptions.removeAll(session);
    for (const it of stored.subscriptions) subscriptions.add(session, it);
    if (stored.connectedTo === brokerId) return;
    if (stored.connectedTo === undefined) this.#aftermath.watch(session);
    else this.#options.brokers.expect(stored.connectedTo);
  }

  /** Takes the session out of all that this broker knows, unless its client is here. */
  forget(clientId: string): void {
    const session = this.#byId.get(clientId);
    if (!session || session.isHere) return;
    this.#options.subscriptions.removeAll(session);
    this.#byId.delete(clientId);
    this.#aftermath.unwatch(session);
  }

  /** There are brokers that cannot know of the members that are not kept. */
  announceShared(): void {
    for (const session of this.#byId.values()) {
      if (!session.isHere || session.isKept) continue;
      this.save(session)?.catch((fault) => this.#aftermath.failed(session, fault));
    }
  }

  /** Wills that are due, sessions whose time is over: one broker sees to them, for all. */
  sweep(): void {
    const { brokers, claims, aftermath } = this.#options;
    if (!brokers.isFirst) return;
    for (const session of aftermath.watched) {
      const { clientId } = session;
      // A CONNECT on its way in has the session; what is under way for it comes first.
      if (claims.has(clientId) || aftermath.settling(clientId)) continue;
      if (session.isDue) void aftermath.settle(session, () => aftermath.lookAfter(session));
    }
  }
}
