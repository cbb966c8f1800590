// claims: which CONNECT of a client id is the last of all brokers, and what it waits for: that the broker
// of the client's last connection has done with it.
// Path: sessions, notices → [claims] → routing. Touches: nothing.

import type { Will } from "#contract/session";
import type { ClientRights } from "./rights.ts";
import type { Routing } from "./routing.ts";

export interface ClaimsOptions {
  readonly brokerId: string;
  readonly routing: Pick<Routing, "notify">;
}

/** A will that another broker has to publish: that of the client's last connection. */
export interface OwedWill {
  readonly clientId: string;
  readonly will: Will;
  readonly rights: ClientRights;
  readonly broker: string;
}

export class Claims {
  readonly #options: ClaimsOptions;
  /** The newest CONNECT of each client id that is on its way in here. */
  readonly #newest = new Map<string, string>();
  /** Sessions that a CONNECT here is about to have: what others say of them is of the past. */
  readonly #adopting = new Set<string>();
  /** Who waits to hear a notice with this token. */
  readonly #hearing = new Map<string, () => void>();
  /** CONNECTs that wait for another broker to have done with the client's last connection. */
  readonly #awaiting = new Map<string, () => void>();
  /** Wills that another broker has to publish, by client id, until it says that it has. */
  readonly #owed = new Map<string, OwedWill>();
  #tokens = 0;

  constructor(options: ClaimsOptions) {
    this.#options = options;
  }

  /** Resolves with its token when the CONNECT has been heard by everybody, in one order for all. */
  async claim(clientId: string, clean: boolean): Promise<string> {
    const token = this.#newToken();
    const sending = this.#options.routing.notify({ kind: "connect", clientId, token, clean });
    // A broker that is alone has heard itself by now.
    const isHeard = sending === undefined && this.isNewest(clientId, token);
    if (!isHeard) await this.#hear(token, () => sending);
    return token;
  }

  /** Is a CONNECT with this client id on its way in here? */
  has(clientId: string): boolean {
    return this.#newest.has(clientId);
  }

  isNewest(clientId: string, token: string): boolean {
    return this.#newest.get(clientId) === token;
  }

  /** A CONNECT is about to have the session. */
  adopt(clientId: string): void {
    this.#adopting.add(clientId);
  }

  isAdopting(clientId: string): boolean {
    return this.#adopting.has(clientId);
  }

  /** The CONNECT is in, or has failed. */
  end(clientId: string, token: string): void {
    this.#adopting.delete(clientId);
    this.#awaiting.delete(clientId);
    if (this.isNewest(clientId, token)) this.#newest.delete(clientId);
  }

  /** Resolves when another broker has done with the client's connection there. */
  awaitRelease(clientId: string): Promise<void> {
    return new Promise<void>((resolve) => this.#awaiting.set(clientId, resolve));
  }

  /** Resolves when all is heard that any broker has said by now. */
  async hearAll(): Promise<void> {
    const token = this.#newToken();
    await this.#hear(token, () => this.#options.routing.notify({ kind: "echo", token }));
  }

  /** A CONNECT is heard, of this broker or of another one. */
  claimed(clientId: string, token: string, isOurs: boolean): void {
    if (isOurs || this.has(clientId)) this.#newest.set(clientId, token);
    this.heard(token);
  }

  /** The notice with this token is heard, and all that was said before it. */
  heard(token: string): void {
    this.#hearing.get(token)?.();
  }

  /** Another broker has told what became of the session: nothing more comes of it from there. */
  told(clientId: string): void {
    this.#awaiting.get(clientId)?.();
  }

  /** A broker has done with the client's last connection, its will included. */
  released(clientId: string): void {
    this.#owed.delete(clientId);
    this.told(clientId);
  }

  /** Its broker publishes that will, or this one when that has died. */
  owe(owed: OwedWill): void {
    this.#owed.set(owed.clientId, owed);
  }

  /** The wills that a broker which has died owes: they are for the caller to publish. */
  takeOwed(dead: string): OwedWill[] {
    const owed = [...this.#owed.values()].filter(({ broker }) => broker === dead);
    for (const { clientId } of owed) this.#owed.delete(clientId);
    return owed;
  }

  /** Says a notice with that token, and resolves when it is heard. */
  async #hear(token: string, say: () => Promise<void> | undefined): Promise<void> {
    const heard = new Promise<void>((resolve) => this.#hearing.set(token, resolve));
    try {
      await say();
      await heard;
    } finally {
      this.#hearing.delete(token);
    }
  }

  #newToken(): string {
    return `${this.#options.brokerId}/${++this.#tokens}`;
  }
}
