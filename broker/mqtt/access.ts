// access: who may connect: anonymous by address, users by password, devices by certificate.
// Path: session → [access] → custody. Touches: the users that it is given.

import { isLoopback } from "#runtime/address";
import type { Log } from "#runtime/log";
import type { Metrics } from "#runtime/metrics";
import type { Settings } from "#runtime/settings-schema";

/** CONNACK return codes (MQTT 3.1.1 table 3.1). */
export const RETURN_CODE = { unavailable: 3, badLogin: 4, notAuthorized: 5 } as const;

export type Refusal = (typeof RETURN_CODE)[keyof typeof RETURN_CODE];

export interface AccessPeer {
  /** undefined on a unix socket */
  readonly ip: string | undefined;
  readonly certificateName: string | undefined;
}

export interface Login {
  readonly username: string | undefined;
  readonly password: Uint8Array | undefined;
}

export interface AccessOptions {
  readonly anonymous: Settings["access"]["anonymous"];
  readonly users: { verify(name: string, password: Uint8Array): Promise<boolean> };
  readonly log: Log;
  readonly metrics: Metrics;
}

const LOG_EVERY_MS = 1_000;

/** Decides on one CONNECT. */
export class Access {
  readonly #options: AccessOptions;
  readonly #count: (labels: { reason: string }) => void;
  #loggedAtMs = Number.NEGATIVE_INFINITY;
  #unlogged = 0;

  constructor(options: AccessOptions) {
    this.#options = options;
    this.#count = options.metrics.counter(
      "sluice_connects_refused_total",
      "CONNECT packets that were refused, by reason.",
    );
  }

  /** undefined: welcome; otherwise the return code of the CONNACK. */
  async refusalOf(peer: AccessPeer, login: Login): Promise<Refusal | undefined> {
    if (login.username !== undefined) {
      const isKnown = await this.#options.users.verify(
        login.username,
        login.password ?? new Uint8Array(),
      );
      return isKnown ? undefined : this.#refuse(peer, login, RETURN_CODE.badLogin, "bad login");
    }
    // The TLS handshake has proved who this is.
    if (peer.certificateName !== undefined || this.#welcomesAnonymous(peer)) return undefined;
    return this.#refuse(peer, login, RETURN_CODE.notAuthorized, "anonymous");
  }

  #welcomesAnonymous({ ip }: AccessPeer): boolean {
    if (this.#options.anonymous === "loopback") return ip === undefined || isLoopback(ip);
    return this.#options.anonymous === "all";
  }

  #refuse(peer: AccessPeer, login: Login, code: Refusal, reason: string): Refusal {
    this.#count({ reason });
    const nowMs = performance.now();
    if (nowMs - this.#loggedAtMs < LOG_EVERY_MS) {
      this.#unlogged += 1;
    } else {
      const { ip } = peer;
      const { username } = login;
      this.#options.log.warn({ ip, username, reason, unlogged: this.#unlogged }, "CONNECT refused");
      this.#loggedAtMs = nowMs;
      this.#unlogged = 0;
    }
    return code;
  }
}
