// devices: the MQTT clients of all devices, grouped by the link that they are on.
// Path: drivers → [devices] → broker, and back. Touches: the network, by device.ts.

import { basename, join } from "node:path";
import { SluiceError } from "#contract/errors";
import { NAME_PATTERN } from "#contract/topics";
import type { Log } from "#runtime/log";
import { type LinkSettings, whereOf } from "#runtime/settings-links";
import type { Settings } from "#runtime/settings-schema";
import type { BrokerDoor } from "../driver.ts";
import { brokerDoor } from "./broker-door.ts";
import { MqttDevice } from "./device.ts";
import { LinkHost } from "./link-host.ts";
import { MemoryFile } from "./memory.ts";

const NAME_CHARACTERS_MAX = 63;

export class Devices {
  readonly #door: BrokerDoor;
  readonly #unacknowledgedMax: number;
  readonly #folder: string;
  readonly #log: Log;
  readonly #hosts = new Map<string, LinkHost>();

  /** Reads the secrets' files; @throws SluiceError CERTIFICATE_UNREADABLE. */
  constructor({ bridge, data }: Pick<Settings, "bridge" | "data">, log: Log) {
    this.#door = brokerDoor(bridge);
    this.#unacknowledgedMax = bridge.unacknowledged_max;
    this.#folder = join(data, "firmware-bridge");
    this.#log = log;
  }

  /** Where the driver of this link gets its devices; @throws SluiceError SETTINGS_INVALID. */
  host(link: Pick<LinkSettings, "path" | "match" | "address" | "name" | "device">): LinkHost {
    const where = whereOf(link);
    const name = link.name ?? link.device ?? nameOfPath(where);
    const other = this.#hosts.get(name)?.path;
    if (other !== undefined) {
      const message = `links ${other} and ${where} are both called "${name}"; set name`;
      throw new SluiceError("SETTINGS_INVALID", message);
    }
    const log = this.#log.child({ link: name });
    const host = new LinkHost({
      name,
      deviceName: link.device ?? name,
      path: where,
      log,
      door: this.#door,
      memory: new MemoryFile(join(this.#folder, `${name}.json`), log),
      connect: (device) => this.#connect(device),
    });
    this.#hosts.set(name, host);
    return host;
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#hosts.values()].map((host) => host.stop()));
  }

  #connect(name: string): MqttDevice {
    return new MqttDevice({
      name,
      door: this.#door,
      unacknowledgedMax: this.#unacknowledgedMax,
      log: this.#log,
    });
  }
}

/** The end of a path, which tells ports apart, as the name of a device. */
export function nameOfPath(path: string): string {
  const name = basename(path)
    .replace(/[^A-Za-z0-9._-]/g, "-")
    .slice(-NAME_CHARACTERS_MAX)
    .replace(/^[^A-Za-z0-9]+/, "");
  return NAME_PATTERN.test(name) ? name : "device";
}
