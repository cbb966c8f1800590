// aftermath: what is left to be done when a connection is over, in its turn: the will, the session's end,
// messages of shared subscriptions for another member.
// Path: sessions, notices → [aftermath] → store, routing. Touches: the store that it is given.

import { SluiceError } from "#contract/errors";
import type { Message } from "#contract/message";
import type { SessionQueue, SessionStore, Will } from "#contract/session";
import { steadyNowMs } from "#runtime/clock";
import type { Log } from "#runtime/log";
import type { ClientRights } from "./rights.ts";
import type { Routing } from "./routing.ts";
import type { Session } from "./session.ts";
import type { Entry } from "./sources.ts";
import { SparingLog } from "./sparing-log.ts";

/** What is read of a queue at once when its shared messages go to another member. */
const READ_COUNT_MAX = 256;
const READ_BYTES_MAX = 1_048_576;

export interface AftermathOptions {
  readonly brokerId: string;
  readonly store: SessionStore;
  readonly routing: Routing;
  /** Publishes a will. */
  readonly publish: (message: Message) => Promise<void>;
  /** Takes the session out of all that this broker knows. */
  readonly forget: (clientId: string) => void;
  readonly log: Log;
}

export class Aftermath {
  readonly #options: AftermathOptions;
  /** Sessions with something to be done while their client is away: a will, an end. */
  readonly #away = new Set<Session>();
  /** What connections that are over have left to be done, by client id. */
  readonly #settling = new Map<string, Promise<void>>();
  /** A disk that is full fails each client that leaves or returns, over and over. */
  readonly #failures: SparingLog;

  constructor(options: AftermathOptions) {
    const { log } = options;
    this.#options = options;
    this.#failures = new SparingLog((line) => log.error(line, "session not looked after"));
  }

  /** Its client is away: its will and its end are looked after from now on. */
  watch(session: Session): void {
    this.#away.add(session);
  }

  /** Its client is back, or it is gone. */
  unwatch(session: Session): void {
    this.#away.delete(session);
  }

  get watched(): Iterable<Session> {
    return this.#away;
  }

  /** What a connection leaves behind is done before the next one with its client id begins. */
  settle(session: Session, run: () => Promise<void>): Promise<void> {
    const { clientId } = session;
    const before = this.#settling.get(clientId);
    const settled: Promise<void> = (before ?? Promise.resolve())
      .then(run)
      .catch((fault) => this.failed(session, fault))
      .finally(() => {
        if (this.#settling.get(clientId) === settled) this.#settling.delete(clientId);
      });
    this.#settling.set(clientId, settled);
    return settled;
  }

  /** Resolves when that is done; undefined: nothing is left of the client's connections. */
  settling(clientId: string): Promise<void> | undefined {
    return this.#settling.get(clientId);
  }

  /** Something cannot be done for the session now; what is kept of it is as it was. */
  failed({ clientId }: Session, fault: unknown): void {
    // Whoever has its client now looks after it.
    if (isMoved(fault)) return;
    this.#failures.tellFault(fault, { client: clientId });
  }

  /** Resolves when all that ended connections left behind is done. */
  async close(): Promise<void> {
    await Promise.all(this.#settling.values());
  }

  /**
   * The connection is over that the session's client had at `broker`: the session ends with it, or is
   * kept with what is left of it to do.
   */
  async goAway(session: Session, broker = this.#options.brokerId): Promise<void> {
    const { will } = session;
    if (!session.isLasting) {
      await this.end(session, broker);
      return;
    }
    if (will && will.delaySeconds === 0) {
      session.will = undefined;
      await this.publishWill(will, session.rights);
    }
    if (session.isConnected) return;
    this.watch(session);
    await this.save(session, broker);
  }

  /** `broker` died with this session's connection, or was this broker's own earlier life. */
  async lost(session: Session, broker: string): Promise<void> {
    session.connectedTo = undefined;
    session.awaySinceMs ??= steadyNowMs();
    // All that is in its queue may have been sent.
    if (session.isKept) session.sentUpTo = await this.#queueOf(session).newest();
    await this.goAway(session, broker);
    if (session.isLasting) await this.handOverShared(session, []);
  }

  /**
   * Keeps the session as it is, and tells the other brokers. `by`: the broker that its client was at.
   * @throws SluiceError SESSION_MOVED when it is at another one by now.
   */
  async save(session: Session, by?: string): Promise<void> {
    const stored = session.stored();
    session.isStored ||= session.isKept || session.will !== undefined;
    if (session.isStored) await this.#options.store.save(stored, by);
    await this.#options.routing.notify({ kind: "session", session: stored });
  }

  /**
   * Nothing of it is left; its will, if it is due yet, is published now [MQTT-3.1.2-8]. `by`: the
   * broker that its client was at, if it is not for the caller to take it from whichever has it.
   */
  async end(session: Session, by?: string): Promise<void> {
    const { will, clientId, isStored } = session;
    const isKnown = isStored || session.subscriptions.size > 0;
    session.will = undefined;
    this.unwatch(session);
    this.#options.forget(clientId);
    if (will) await this.publishWill(will, session.rights);
    if (session.isKept) await this.#handOverQueued(session);
    if (isStored) await this.unstore(session, by);
    if (isKnown) await this.#options.routing.notify({ kind: "ended", clientId });
  }

  /** Nothing of it need be kept: its document goes, its queue and its QoS 2 ids. */
  async unstore(session: Session, by?: string): Promise<void> {
    session.isStored = false;
    await this.#options.store.remove(session.clientId, by);
  }

  /** The rights are asked again: a session may outlive settings. */
  async publishWill({ message, expirySeconds }: Will, rights: ClientRights): Promise<void> {
    if (!rights.mayPublish(message.topic, message.retain)) return;
    const takenAtMs = Math.floor(steadyNowMs());
    const expiry =
      expirySeconds === undefined ? {} : { expiresAtMs: takenAtMs + expirySeconds * 1_000 };
    await this.#options.publish({ ...message, takenAtMs, ...expiry });
  }

  /** A will that is due by now, or the end of a session whose time is over. */
  async lookAfter(session: Session): Promise<void> {
    if (session.isConnected) {
      this.unwatch(session);
    } else if (session.isExpired) {
      this.unwatch(session);
      await this.end(session, this.#options.brokerId);
    } else if (session.will && session.isDue) {
      const { will } = session;
      session.will = undefined;
      await this.publishWill(will, session.rights);
      await this.save(session, this.#options.brokerId);
    }
  }

  /** Messages of a shared subscription that this member has not acknowledged go to another. */
  async handOverShared(session: Session, unsent: readonly Entry[]): Promise<void> {
    if (session.isKept) {
      await this.#handOverQueued(session);
      return;
    }
    for (const { publication, form, shared } of unsent) {
      if (!publication || shared === undefined || form.qos === 0) continue;
      const to = { except: session, orAway: true };
      await this.#options.routing.redispatch(publication.message, form.qos, shared, to);
    }
  }

  async #handOverQueued(session: Session): Promise<void> {
    if (!session.isMember) return;
    const queue = this.#queueOf(session);
    let after = 0;
    for (;;) {
      const read = await queue.read(after, READ_COUNT_MAX, READ_BYTES_MAX);
      for (const entry of read) {
        after = entry.number;
        if (session.isConnected) return;
        await this.#handOver(session, queue, entry);
      }
      if (read.length === 0) return;
    }
  }

  async #handOver(
    session: Session,
    queue: SessionQueue,
    { number, message, qos, shared }: Awaited<ReturnType<SessionQueue["read"]>>[number],
  ): Promise<void> {
    // A QoS 2 message that was begun is completed with this client [MQTT-4.8.2-4].
    const isBegun = qos === 2 && number <= session.sentUpTo;
    if (!message || shared === undefined || isBegun) return;
    const to = { except: session, orAway: !session.isLasting || session.isExpired };
    if (await this.#options.routing.redispatch(message, qos, shared, to)) {
      await queue.remove(number, false);
    }
  }
  #queueOf({ clientId }: Session): SessionQueue {
    return this.#options.store.queue(clientId);
  }
}

/** Is the session's client connected to another broker by now? */
export function isMoved(fault: unknown): boolean {
  return fault instanceof SluiceError && fault.code === "SESSION_MOVED";
}
