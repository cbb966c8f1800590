// notices: what brokers of a cluster tell each other of clients and their sessions, and what follows when
// one of them says nothing any more.
// Path: routing → [notices] → claims, sessions, aftermath. Touches: nothing.

import { reasonOf } from "#contract/errors";
import type { Log } from "#runtime/log";
import type { Aftermath } from "./aftermath.ts";
import type { Brokers } from "./brokers.ts";
import type { Claims } from "./claims.ts";
import type { Notice, Routing } from "./routing.ts";
import type { Session } from "./session.ts";
import type { Sessions } from "./sessions.ts";
import { REASON } from "./wire/reason-codes.ts";

/** Notices of clients and their sessions. */
export type SessionNotice = Exclude<Notice, { kind: "crowded" }>;

export interface NoticesOptions {
  readonly brokerId: string;
  readonly routing: Routing;
  readonly brokers: Brokers;
  readonly claims: Claims;
  readonly sessions: Sessions;
  readonly aftermath: Aftermath;
  readonly log: Log;
}

export class Notices {
  readonly #options: NoticesOptions;

  constructor(options: NoticesOptions) {
    this.#options = options;
  }

  /** A broker, this one too, tells something. */
  noticed(notice: SessionNotice, brokerId: string): void {
    const { claims, sessions } = this.#options;
    const isOurs = brokerId === this.#options.brokerId;
    switch (notice.kind) {
      case "connect":
        this.#connecting(notice, brokerId);
        return;
      case "released":
        claims.released(notice.clientId);
        if (!isOurs) this.#rewrite(notice.clientId);
        return;
      case "session":
        if (!isOurs) this.#told(notice.session.clientId, () => sessions.learn(notice.session));
        return;
      case "ended":
        if (!isOurs) this.#told(notice.clientId, () => sessions.forget(notice.clientId));
        return;
      case "echo":
        claims.heard(notice.token);
        return;
      case "lost":
        if (notice.broker === this.#options.brokerId) this.#takenForDead(notice.clientId);
        return;
      case "born":
        sessions.announceShared();
    }
  }

  /** Brokers that were silent for too long have died. */
  sweep(): void {
    for (const dead of this.#options.brokers.sweep()) this.#died(dead);
  }

  #connecting({ clientId, token, clean }: Notice & { kind: "connect" }, brokerId: string): void {
    const { claims, sessions } = this.#options;
    const isOurs = brokerId === this.#options.brokerId;
    claims.claimed(clientId, token, isOurs);
    const session = sessions.get(clientId);
    if (session?.attached) sessions.takeOver(session, session.attached, clean, isOurs);
    else if (session && !isOurs) this.#releaseSettled(session);
    // What this broker has still to do for its last connection must not say that it is away.
    if (session && !isOurs && !session.isHere) session.connectedTo = brokerId;
  }

  /** A client went to another broker while its connection here was being wound up. */
  #releaseSettled(session: Session): void {
    const { aftermath, routing } = this.#options;
    const { clientId } = session;
    aftermath
      .settling(clientId)
      ?.then(() => routing.notify({ kind: "released", clientId }))
      .catch((fault) => aftermath.failed(session, fault));
  }

  /** Another broker says what became of a session. */
  #told(clientId: string, take: () => void): void {
    const { claims, sessions } = this.#options;
    claims.told(clientId);
    sessions.touch(clientId);
    if (!claims.isAdopting(clientId)) take();
  }

  /**
   * Another broker has done with a client that is here: what it wrote last of the session, and would
   * not have if it had known, is written over.
   */
  #rewrite(clientId: string): void {
    const { claims, sessions, aftermath } = this.#options;
    const session = sessions.get(clientId);
    if (!session?.isStored || claims.isAdopting(clientId)) return;
    const isOurs = () => session.isHere || (session.wasHere && session.connectedTo === undefined);
    if (!isOurs()) return;
    void aftermath.settle(session, async () => {
      if (isOurs() && session.isStored) await aftermath.save(session);
    });
  }

  /**
   * This broker was silent for so long that another one has done all that a client's connection here
   * leaves behind: it must be over, and its will is not published again.
   */
  #takenForDead(clientId: string): void {
    const session = this.#options.sessions.get(clientId);
    if (!session?.attached) return;
    session.will = undefined;
    session.attached.end(REASON.serverBusy, "the broker was cut off from its cluster");
  }

  /** The clients of a broker that has died are away, and the wills that it owed are due. */
  #died(dead: string): void {
    const { log, sessions, claims, aftermath } = this.#options;
    log.warn({ broker: dead }, "a broker of the cluster has died");
    for (const session of sessions.connectedTo(dead)) this.#lost(session, dead);
    for (const { clientId, will, rights } of claims.takeOwed(dead)) {
      aftermath.publishWill(will, rights).catch((fault) => {
        log.error({ client: clientId, why: reasonOf(fault) }, "will not published");
      });
    }
  }

  /** A session's client was connected to a broker that has died. */
  #lost(session: Session, dead: string): void {
    const { routing, brokers, sessions, aftermath } = this.#options;
    const { clientId } = session;
    session.connectedTo = undefined;
    if (!session.isStored) sessions.forget(clientId);
    else if (brokers.isFirst) {
      void aftermath.settle(session, async () => {
        // If it is not dead but was cut off, it must hear this before its client goes on there.
        await routing.notify({ kind: "lost", clientId, broker: dead });
        await aftermath.lost(session, dead);
      });
    } else aftermath.watch(session);
  }
}
