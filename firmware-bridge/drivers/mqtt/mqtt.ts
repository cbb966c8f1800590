// mqtt: the driver of devices that speak MQTT themselves: a way to the broker, and a watch on it.
// Path: link → packet-framer → [mqtt] → passage → broker, and back. Touches: a password's file.

import * as v from "valibot";
import { SluiceError } from "#contract/errors";
import { readSecret } from "#runtime/files";
import { path, text, whole } from "#runtime/settings-values";
import type { Driver, Host, Link } from "../../driver.ts";
import type { DriverKind } from "../kind.ts";
import { ConnectPace } from "./connect-pace.ts";
import { connackOf, REFUSALS, readConnect, withLogin } from "./connect-packet.ts";
import { PacketFramer, type Piece } from "./packet-framer.ts";
import { Passage } from "./passage.ts";

/** What fits a text of MQTT [MQTT-1.5.4-1]. */
const TEXT_BYTES_MAX = 65_535;
/** Of what is not understood; behind its client id a CONNECT has the device's password. */
const SHOWN_BYTES_MAX = 14;
const SHOWN_CHARACTERS_MAX = 128;

const Settings = v.pipe(
  v.strictObject({
    client_id: v.optional(text),
    username: v.optional(text),
    password_file: v.optional(path),
    connect_seconds_max: v.optional(whole(1, 300), 10),
    packet_bytes_max: v.optional(whole(128, 1_048_576), 65_536),
    packet_gap_ms_max: v.optional(whole(50, 60_000), 1_000),
  }),
  v.check(
    ({ username, password_file }) => username !== undefined || password_file === undefined,
    "allowed: password_file only beside username",
  ),
);

export type MqttSettings = Readonly<v.InferOutput<typeof Settings>>;

interface Login {
  readonly username: string;
  readonly password: string | undefined;
}

/** Reads the password once; @throws SluiceError CERTIFICATE_UNREADABLE, SETTINGS_INVALID. */
export const mqtt: DriverKind<MqttSettings> = {
  settings: Settings,
  create: (settings, host) => new MqttDriver(settings, host),
};

class MqttDriver implements Driver {
  readonly #settings: MqttSettings;
  readonly #login: Login | undefined;
  readonly #host: Host;

  constructor(settings: MqttSettings, host: Host) {
    this.#settings = settings;
    this.#login = loginOf(settings);
    this.#host = host;
  }

  async run(link: Link): Promise<void> {
    const run = new MqttRun(this.#settings, this.#login, this.#host, link);
    await run.untilEnd();
  }
}

/** One time that the link is up. */
class MqttRun {
  readonly #settings: MqttSettings;
  readonly #login: Login | undefined;
  readonly #host: Host;
  readonly #link: Link;
  readonly #framer: PacketFramer;
  readonly #pace = new ConnectPace();
  readonly #linkFault = Promise.withResolvers<never>();
  #passage: Passage | undefined;
  #isOver = false;

  constructor(settings: MqttSettings, login: Login | undefined, host: Host, link: Link) {
    this.#settings = settings;
    this.#login = login;
    this.#host = host;
    this.#link = link;
    this.#framer = new PacketFramer(settings.packet_bytes_max);
  }

  async untilEnd(): Promise<void> {
    try {
      await Promise.race([this.#read(), this.#linkFault.promise]);
    } finally {
      this.#isOver = true;
      await this.#leave();
    }
  }

  async #read(): Promise<void> {
    let askedAtMs = performance.now();
    for await (const { bytes } of this.#link.readable) {
      // Only the wait for the device counts, not the time in which nobody asked it.
      await this.#noteGap(performance.now() - askedAtMs);
      for (const piece of this.#framer.push(bytes)) await this.#handle(piece);
      askedAtMs = performance.now();
    }
  }

  /** A device that was reset in the middle of a packet would have its CONNECT taken for the rest. */
  async #noteGap(ms: number): Promise<void> {
    if (ms <= this.#settings.packet_gap_ms_max || !this.#framer.isWithinPacket) return;
    this.#framer.breakOff();
    this.#host.fault("a packet broke off");
    await this.#leave();
  }

  async #handle(piece: Piece): Promise<void> {
    if (this.#isOver) return;
    if (piece.kind === "bytes") {
      this.#host.countFrames(piece.packets);
      const full = this.#passage?.send(piece.bytes);
      if (full) await full;
      return;
    }
    // A second CONNECT on one connection is a protocol error [MQTT-3.1.0-2]: the device was reset.
    await this.#leave();
    if (piece.kind === "fault") this.#fault(piece.reason, piece.bytes);
    else await this.#admit(piece.bytes);
  }

  async #leave(): Promise<void> {
    const passage = this.#passage;
    this.#passage = undefined;
    await passage?.leave();
  }

  async #admit(packet: Uint8Array): Promise<void> {
    const { client_id } = this.#settings;
    const facts = readConnect(packet);
    if (!facts) {
      this.#fault("a CONNECT that ends too soon", packet);
    } else if (client_id !== undefined && facts.clientId !== client_id) {
      const shown = JSON.stringify(facts.clientId.slice(0, SHOWN_CHARACTERS_MAX));
      this.#host.fault(`a CONNECT of client id ${shown}`);
      await this.#link.write(connackOf(REFUSALS.clientId, facts.version));
    } else if (!this.#pace.take()) {
      this.#host.fault("a CONNECT so soon after others");
      await this.#link.write(connackOf(REFUSALS.busy, facts.version));
    } else {
      this.#host.countFrames(1);
      this.#passage = this.#connect(facts.hasLogin ? packet : this.#withOurLogin(packet));
    }
  }

  #fault(reason: string, bytes: Uint8Array): void {
    this.#host.fault(reason, bytes.subarray(0, SHOWN_BYTES_MAX));
  }

  #withOurLogin(packet: Uint8Array): Uint8Array {
    const login = this.#login;
    return login ? withLogin(packet, login.username, login.password) : packet;
  }

  #connect(connect: Uint8Array): Passage {
    return new Passage({
      door: this.#host.door,
      connect,
      connectMsMax: this.#settings.connect_seconds_max * 1_000,
      link: this.#link,
      log: this.#host.log,
      onLinkFault: (fault) => this.#linkFault.reject(fault),
    });
  }
}

function loginOf({ username, password_file }: MqttSettings): Login | undefined {
  if (username === undefined) return undefined;
  const password = password_file === undefined ? undefined : readSecret(password_file);
  for (const [key, value] of Object.entries({ username, password })) {
    if (value === undefined || Buffer.byteLength(value) <= TEXT_BYTES_MAX) continue;
    const message = `links' mqtt: ${key} is longer than ${TEXT_BYTES_MAX} bytes; shorten it`;
    throw new SluiceError("SETTINGS_INVALID", message);
  }
  return { username, password };
}
