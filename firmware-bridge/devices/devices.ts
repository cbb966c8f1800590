// devices: the MQTT clients of all devices, grouped by the link that they are on.
// Path: drivers → [devices] → broker, and back. Touches: the network, by device.ts.

import { basename } from "node:path";
import { SluiceError } from "#contract/errors";
import { NAME_PATTERN } from "#contract/topics";
import type { Log } from "#runtime/log";
import type { BridgeSettings, LinkSettings } from "#runtime/settings-schema";
import type { Device, Host } from "../driver.ts";
import { type BrokerAddress, brokerAddress } from "./broker-address.ts";
import { MqttDevice } from "./device.ts";

const NAME_CHARACTERS_MAX = 63;

export class Devices {
  readonly #address: BrokerAddress;
  readonly #unacknowledgedMax: number;
  readonly #log: Log;
  readonly #hosts = new Map<string, LinkHost>();

  /** Reads the secrets' files; @throws SluiceError CERTIFICATE_UNREADABLE. */
  constructor(settings: BridgeSettings, log: Log) {
    this.#address = brokerAddress(settings);
    this.#unacknowledgedMax = settings.unacknowledged_max;
    this.#log = log;
  }

  /** Where the driver of this link gets its devices; @throws SluiceError SETTINGS_INVALID. */
  host(link: Pick<LinkSettings, "path" | "device">): LinkHost {
    const name = link.device ?? nameOfPath(link.path);
    const other = this.#hosts.get(name)?.path;
    if (other !== undefined) {
      const message = `links ${other} and ${link.path} are both called "${name}"; set device`;
      throw new SluiceError("SETTINGS_INVALID", message);
    }
    const host = new LinkHost(name, link.path, (device) => this.#connect(device));
    this.#hosts.set(name, host);
    return host;
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#hosts.values()].map((host) => host.stop()));
  }

  #connect(name: string): MqttDevice {
    return new MqttDevice({
      name,
      address: this.#address,
      unacknowledgedMax: this.#unacknowledgedMax,
      log: this.#log,
    });
  }
}

/** The devices of one link. */
export class LinkHost implements Host {
  readonly name: string;
  readonly path: string;
  readonly #connect: (name: string) => MqttDevice;
  readonly #devices = new Map<string, MqttDevice>();

  constructor(name: string, path: string, connect: (name: string) => MqttDevice) {
    this.name = name;
    this.path = path;
    this.#connect = connect;
  }

  device(name: string): Device {
    const device = this.#devices.get(name) ?? this.#connect(name);
    this.#devices.set(name, device);
    return device;
  }

  /** The link is gone, and all devices with it. */
  offline(reason: string): void {
    for (const device of this.#devices.values()) device.offline(reason);
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#devices.values()].map((device) => device.stop()));
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
