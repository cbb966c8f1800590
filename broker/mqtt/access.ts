// access: who may connect: anonymous by address, users by password, devices by certificate.
// Path: session → [access] → custody. Touches: the users file, through what opens it.

import { SluiceError } from "#contract/errors";
import { isLoopback } from "#runtime/address";
import type { Log } from "#runtime/log";
import type { Metrics } from "#runtime/metrics";
import { printable } from "#runtime/printable";
import type { Settings } from "#runtime/settings-schema";
import { type ClientRights, type Identity, Rights } from "./rights.ts";
import { SparingLog } from "./sparing-log.ts";
import { REASON } from "./wire/reason-codes.ts";

export interface AccessPeer {
  /** undefined on a unix socket */
  readonly ip: string | undefined;
  readonly certificateName: string | undefined;
}

export interface Login {
  /** As in CONNECT, so perhaps empty. */
  readonly clientId: string;
  readonly username: string | undefined;
  readonly password: Uint8Array | undefined;
}

/** What knows passwords; it rejects with ACCESS_DENIED when too many wait for its answer. */
export interface UserCheck {
  verify(name: string, password: Uint8Array): Promise<boolean>;
}

export interface AccessOptions {
  readonly settings: Settings["access"];
  /** @throws SluiceError SETTINGS_INVALID when the users file is broken. */
  readonly openUsers: (path: string) => UserCheck;
  readonly log: Log;
  readonly metrics: Metrics;
}

/** How much of a name, which may have 64 KB, a log line shows. */
const NAME_SHOWN_MAX = 64;

const NO_PASSWORD = new Uint8Array();

/** Decides on each CONNECT, and what its client may do then. */
export class Access {
  readonly #options: AccessOptions;
  readonly #count: (labels: { reason: string }) => void;
  readonly #refusals: SparingLog;
  #settings: Settings["access"];
  #users: UserCheck;
  #rights: Rights;

  /** @throws SluiceError SETTINGS_INVALID when the users file is broken. */
  constructor(options: AccessOptions) {
    const { settings, openUsers, log, metrics } = options;
    this.#options = options;
    this.#settings = settings;
    this.#users = openUsers(settings.users_file);
    this.#rights = new Rights(settings.rights);
    this.#refusals = new SparingLog((line) => log.warn(line, "CONNECT refused"));
    this.#count = metrics.counter(
      "sluice_connects_refused_total",
      "CONNECT packets that were refused, by reason.",
    );
  }

  /** Another broker that a client may be told of (MQTT 5.0 §4.11). */
  get serverReference(): string | undefined {
    return this.#settings.server_reference;
  }

  /**
   * undefined: welcome; otherwise the reason code of the CONNACK (MQTT 5.0 §3.2.2.2). What it
   * refuses it has counted and logged. May take as long as many hashes do: mind the deadline.
   */
  async refusalOf(peer: AccessPeer, login: Login): Promise<number | undefined> {
    const { username, password } = login;
    if (username !== undefined) {
      return this.#refusalOfUser(peer, login, username, password ?? NO_PASSWORD);
    }
    // MQTT 5.0 §3.1.2.9 allows a password alone, which is nobody's here.
    if (password !== undefined) {
      return this.#refuse(peer, login, "bad login", REASON.badUserNameOrPassword);
    }
    // The TLS handshake has proved who this is.
    if (peer.certificateName !== undefined || this.#welcomesAnonymous(peer)) return undefined;
    return this.#refuse(peer, login, "anonymous", REASON.notAuthorized);
  }

  /** Counts and logs a refusal on any ground; `reason` is one of few words, as "will". */
  refused({ ip }: AccessPeer, { clientId, username }: Login, reason: string): void {
    this.#count({ reason });
    const line = { ip, clientId: shown(clientId), username: shown(username) };
    this.#refusals.tell(reason, ip, line);
  }

  /** What the client may do by the settings of now: ask again after a reload. */
  rightsOf(identity: Identity): ClientRights {
    return this.#rights.of(identity);
  }

  /**
   * Reads the users file; the function returned makes the settings count. Who is connected stays,
   * with rights to ask for again. @throws SluiceError SETTINGS_INVALID, with nothing changed.
   */
  prepare(settings: Settings["access"]): () => void {
    const users = this.#options.openUsers(settings.users_file);
    const rights = new Rights(settings.rights);
    return () => {
      // The same file is followed already, and who has proved a password is remembered there.
      if (settings.users_file !== this.#settings.users_file) this.#users = users;
      this.#settings = settings;
      this.#rights = rights;
    };
  }

  async #refusalOfUser(
    peer: AccessPeer,
    login: Login,
    username: string,
    password: Uint8Array,
  ): Promise<number | undefined> {
    try {
      if (await this.#users.verify(username, password)) return undefined;
      return this.#refuse(peer, login, "bad login", REASON.badUserNameOrPassword);
    } catch (fault) {
      if (!(fault instanceof SluiceError) || fault.code !== "ACCESS_DENIED") throw fault;
      return this.#refuse(peer, login, "busy", REASON.serverBusy);
    }
  }

  #welcomesAnonymous({ ip }: AccessPeer): boolean {
    const { anonymous } = this.#settings;
    if (anonymous === "loopback") return ip === undefined || isLoopback(ip);
    return anonymous === "all";
  }

  #refuse(peer: AccessPeer, login: Login, reason: string, code: number): number {
    this.refused(peer, login, reason);
    return code;
  }
}

/** A name from outside, as a log may show it. */
function shown(name: string | undefined): string | undefined {
  if (name === undefined) return undefined;
  const isLong = name.length > NAME_SHOWN_MAX;
  return printable(name.slice(0, NAME_SHOWN_MAX)) + (isLong ? "…" : "");
}
