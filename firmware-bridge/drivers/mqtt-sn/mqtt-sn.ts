// mqtt-sn: the driver of devices that speak MQTT-SN 1.2, on a serial line or in datagrams.
// Path: link → [mqtt-sn] → gateway → broker. Touches: the clock.

import { SluiceError } from "#contract/errors";
import type { Datagrams, Driver, Host, Link } from "../../driver.ts";
import type { DriverKind } from "../kind.ts";
import { Credentials } from "./credentials.ts";
import { type Framed, Framer } from "./framer.ts";
import { frameLength } from "./frames.ts";
import { Gateway, type Reply } from "./gateway.ts";
import { type MqttSnSettings, Settings } from "./settings.ts";
import { Wills } from "./wills.ts";

/** What may wait for a line that takes nothing; beyond, it is dropped: the devices ask again. */
const UNSENT_FRAMES_MAX = 512;
const LINE = "line";

export const mqttSn: DriverKind<MqttSnSettings> = {
  settings: Settings,
  create: (settings, host) => new MqttSnDriver(settings, host),
};

class MqttSnDriver implements Driver {
  readonly #settings: MqttSnSettings;
  readonly #host: Host;
  readonly #credentials: Credentials;
  readonly #wills: Wills;
  #unsent = 0;

  constructor(settings: MqttSnSettings, host: Host) {
    this.#settings = settings;
    this.#host = host;
    this.#credentials = new Credentials(settings.clients, host.door);
    this.#wills = new Wills(host.memory, settings.clients_max, host.log);
  }

  async run(link: Link): Promise<void> {
    const write: Reply = (frame) => this.#send(() => link.write(frame));
    const gateway = new Gateway({
      settings: this.#settings,
      host: this.#host,
      wills: this.#wills,
      credentials: this.#credentials,
      broadcast: link.datagrams ? undefined : write,
    });
    try {
      if (link.datagrams) await this.#runDatagrams(link.datagrams, gateway);
      else await this.#runStream(link, gateway, write);
    } finally {
      gateway.end("its link is gone");
    }
  }

  async #runStream(link: Link, gateway: Gateway, write: Reply): Promise<void> {
    const framer = new Framer(this.#settings.message_bytes_max);
    const take = (framed: readonly Framed[]) => {
      for (const it of framed) {
        if (it.kind === "frame") gateway.take(it.bytes, LINE, write);
        else this.#host.fault(it.reason, it.bytes);
      }
    };
    const silence = new Silence(this.#settings.gap_ms_max, () => take(framer.silence()));
    for await (const { bytes } of link.readable) {
      silence.stop();
      take(framer.push(bytes));
      if (framer.isWaiting) silence.start();
    }
    silence.stop();
  }

  async #runDatagrams(datagrams: Datagrams, gateway: Gateway): Promise<void> {
    for await (const { bytes, peer } of datagrams.received) {
      // A datagram is one message (§5.2): what is behind it was not sent by a client.
      if (frameLength(bytes, this.#settings.message_bytes_max) !== bytes.length) {
        this.#host.fault("a datagram is no MQTT-SN message", bytes);
        continue;
      }
      gateway.take(bytes, peer, (frame) => this.#send(() => datagrams.send(peer, frame)));
    }
  }

  async #send(send: () => Promise<void>): Promise<void> {
    if (this.#unsent >= UNSENT_FRAMES_MAX) {
      return this.#host.fault("a message is dropped: the line takes no more");
    }
    this.#unsent += 1;
    try {
      await send();
    } catch (fault) {
      if (!(fault instanceof SluiceError)) throw fault;
      // What broke the link ends it; what it did not take is asked for again, or told again.
      this.#host.log.debug({ why: fault.message }, "not sent");
    } finally {
      this.#unsent -= 1;
    }
  }
}

/** Tells when a line was silent; not when this process was, and bytes may lie in the port. */
class Silence {
  readonly #ms: number;
  readonly #onSilence: () => void;
  #timer: NodeJS.Timeout | undefined;

  constructor(ms: number, onSilence: () => void) {
    this.#ms = ms;
    this.#onSilence = onSilence;
  }

  start(): void {
    const startedMs = performance.now();
    this.#timer = setTimeout(() => {
      const isLate = performance.now() - startedMs > this.#ms * 2;
      if (isLate) this.start();
      else this.#onSilence();
    }, this.#ms);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}
