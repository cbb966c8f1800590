// mqtt-sn: a device that speaks MQTT-SN 1.2, on a serial port or by UDP, with the packets of scapy.
// Path: tests → [mqtt-sn] → client.py. Touches: one process.

import { join } from "node:path";
import type { TestContext } from "node:test";
import { waitFor } from "../../../support/wait-for.ts";
import { PeerProcess } from "../peer-process.ts";

/**
 * The fields of a packet in scapy's words: flags dup, qos (0–2, 3 for −1), retain, will, cleansess,
 * tid_type (0 normal, 1 predefined, 2 short); client_id, duration (s), tid, mid, topic_name, data,
 * return_code, will_topic, will_msg …
 */
export type Fields = Readonly<Record<string, string | number>>;

export type Packet = Fields & { readonly type: string };

export class MqttSnDevice {
  readonly #process: PeerProcess;

  private constructor(process: PeerProcess) {
    this.#process = process;
  }

  /** A device until the test ends; `target` is a terminal's path, or HOST:PORT for UDP. */
  static async open(t: Pick<TestContext, "after">, target: string): Promise<MqttSnDevice> {
    // Debian's Python: another one would not find Debian's scapy.
    const command = ["/usr/bin/python3", join(import.meta.dirname, "client.py"), target];
    return new MqttSnDevice(await PeerProcess.start(t, "scapy", command));
  }

  /** Everything that it heard, in order. */
  get received(): readonly Packet[] {
    return this.#process.lines
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line));
  }

  send(type: string, fields: Fields = {}): void {
    this.#process.tell(JSON.stringify([type, fields]));
  }

  /** Sends bytes as they are, well-formed or not. */
  sendRaw(bytes: Uint8Array): void {
    this.#process.tell(JSON.stringify(Buffer.from(bytes).toString("hex")));
  }

  /** Resolves with the first packet of that type, and with these fields, that it hears or heard. */
  async hears(type: string, fields: Fields = {}): Promise<Packet> {
    const fits = (packet: Packet) =>
      packet.type === type &&
      Object.entries(fields).every(([name, value]) => packet[name] === value);
    return waitFor(`${type} ${JSON.stringify(fields)}`, () => this.received.find(fits));
  }

  async end(): Promise<void> {
    await this.#process.end();
  }
}
