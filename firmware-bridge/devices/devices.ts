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
import { CommandJournal } from "./command-journal.ts";
import { MqttDevice } from "./device.ts";
import { identityOf } from "./identity.ts";
import { LinkHost } from "./link-host.ts";
import { MemoryFile } from "./memory.ts";
import type { Publication } from "./outgoing.ts";
import { type Listener, OwnClient } from "./own-client.ts";
import { OwnDevices } from "./own-devices.ts";

const NAME_CHARACTERS_MAX = 63;
/** No link can have this name: names begin with a letter or a digit. */
const JOURNAL_FILE = "_commands.json";
/** Of [[links]]: who and what the one device of the link is. */
const ONE_DEVICE_KEYS = ["client_id", "model", "firmware"] as const;
/** Of [[links]]: for all of its devices. */
const USER_KEYS = ["username", "password_file"] as const;
const OWN_NAME = "give each device a name of its own";
const OWN_DEVICES_FILE = "_devices.json";

export class Devices {
  readonly #settings: Pick<Settings, "bridge" | "data" | "name">;
  readonly #door: BrokerDoor;
  readonly #folder: string;
  readonly #log: Log;
  readonly #journal: CommandJournal;
  readonly #ownDevices: OwnDevices;
  readonly #own: OwnClient;
  readonly #hosts = new Map<string, LinkHost>();
  /** Who has it. */
  readonly #clientIds = new Map<string, string>();

  /** Reads the secrets' files; @throws SluiceError CERTIFICATE_UNREADABLE. */
  constructor(settings: Pick<Settings, "bridge" | "data" | "name">, log: Log, listener?: Listener) {
    const { bridge, data, name } = settings;
    this.#settings = settings;
    this.#clientIds.set(bridge.client_id, "the bridge itself");
    this.#door = brokerDoor(bridge);
    this.#folder = join(data, "firmware-bridge");
    this.#log = log;
    this.#journal = new CommandJournal(new MemoryFile(join(this.#folder, JOURNAL_FILE), log));
    this.#ownDevices = new OwnDevices(
      new MemoryFile(join(this.#folder, OWN_DEVICES_FILE), log),
      log,
    );
    this.#own = new OwnClient({
      clientId: bridge.client_id,
      door: this.#door,
      bridge: name,
      discoveryPrefix: bridge.discovery_prefix,
      listener,
      isKnown: (device) => this.#hostOf(device) !== undefined,
      ownDevices: this.#ownDevices,
      log,
    });
  }

  /**
   * Where the driver of this link gets its devices.
   * @throws SluiceError SETTINGS_INVALID, or CERTIFICATE_UNREADABLE for a password's file.
   */
  host(link: LinkSettings): LinkHost {
    const where = whereOf(link);
    const name = link.name ?? link.device ?? nameOfPath(where);
    const other = this.#hosts.get(name)?.path;
    if (other !== undefined) {
      throw invalid(`links ${other} and ${where} are both called "${name}"; set name`);
    }
    const namesake = this.#hostOf(name)?.place;
    if (namesake !== undefined) throw calledAs(name, namesake, `link ${name} (${where})`);
    const log = this.#log.child({ link: name });
    const deviceName = link.device ?? name;
    const identity = identityOf(link, deviceName, this.#door);
    const host = new LinkHost({
      name,
      deviceName,
      path: where,
      log,
      door: this.#door,
      memory: new MemoryFile(join(this.#folder, `${name}.json`), log),
      debugFramesPerSecondMax: link.debug_frames_per_second_max,
      shout: (topic, payload) => this.#own.shout(topic, payload),
      connect: (device) => this.#connect(device, link, name, identity(device)),
    });
    this.#hosts.set(name, host);
    return host;
  }

  /**
   * Called when the link's driver has named its devices: what the link says of the one device that
   * it is must be of one of them. @throws SluiceError SETTINGS_INVALID that names key and place.
   */
  assertMeant(link: LinkSettings, host: LinkHost): void {
    if (host.has(host.deviceName)) return;
    const keys = host.hasDevices ? ONE_DEVICE_KEYS : [...ONE_DEVICE_KEYS, ...USER_KEYS];
    const key = keys.find((it) => link[it] !== undefined);
    if (key === undefined) return;
    const mend = host.hasDevices
      ? "set it in a table of [[links.devices]]"
      : `the page of the driver says what [links.${link.driver}] has instead`;
    throw invalid(`${host.place}: ${key} is of no device of driver "${link.driver}"; ${mend}`);
  }

  /** Published by the bridge's own client, QoS 1. */
  say(publication: Publication): void {
    this.#own.say(publication);
  }

  /** As `say`, QoS 0 and not retained; lost when there is no connection. */
  shout(topic: string, payload: Buffer): void {
    this.#own.shout(topic, payload);
  }

  async stop(): Promise<void> {
    const stopping = [...this.#hosts.values()].map((host) => host.stop());
    await Promise.all([...stopping, this.#own.stop()]);
    await Promise.all([this.#journal.flush(), this.#ownDevices.flush()]);
  }

  #hostOf(device: string): LinkHost | undefined {
    return [...this.#hosts.values()].find((host) => host.has(device));
  }

  /** @throws SluiceError SETTINGS_INVALID when the name or the client id is another's, too. */
  #connect(
    name: string,
    link: LinkSettings,
    linkName: string,
    identity: ReturnType<ReturnType<typeof identityOf>>,
  ): MqttDevice {
    const { bridge } = this.#settings;
    this.#assertOwnName(name, linkName);
    this.#takeClientId(identity.clientId, `device ${name} of link ${linkName}`);
    this.#ownDevices.add(name);
    return new MqttDevice({
      origin: { name, bridge: this.#settings.name, link: linkName, driver: link.driver },
      identity,
      channels: link.channels,
      unacknowledgedMax: bridge.unacknowledged_max,
      tellsTime: bridge.received_property,
      discoveryPrefix: bridge.discovery_prefix,
      journal: this.#journal,
      log: this.#log,
    });
  }

  /** Its topics would be another's, too. */
  #assertOwnName(device: string, link: string): void {
    const place = this.#hosts.get(link)?.place ?? "";
    const other = this.#hostOf(device)?.place;
    if (other !== undefined) {
      throw invalid(`device "${device}" is on ${other} and on ${place}; ${OWN_NAME}`);
    }
    const namesake = device === link ? undefined : this.#hosts.get(device);
    if (namesake) throw calledAs(device, place, namesake.place);
  }

  /** Of two clients with one id each ends the other's connection, without end (MQTT 5.0 §3.1.4). */
  #takeClientId(clientId: string, device: string): void {
    const other = this.#clientIds.get(clientId);
    if (other !== undefined) {
      const mend = "give each a client_id of its own";
      throw invalid(`${other} and ${device} are both client "${clientId}"; ${mend}`);
    }
    this.#clientIds.set(clientId, device);
  }
}

function calledAs(device: string, place: string, other: string): SluiceError {
  return invalid(`device "${device}" of ${place} has the name of ${other}; ${OWN_NAME}`);
}

function invalid(message: string): SluiceError {
  return new SluiceError("SETTINGS_INVALID", message);
}

/** The end of a path, which tells ports apart, as the name of a device. */
export function nameOfPath(path: string): string {
  const name = basename(path)
    .replace(/[^A-Za-z0-9._-]/g, "-")
    .slice(-NAME_CHARACTERS_MAX)
    .replace(/^[^A-Za-z0-9]+/, "");
  return NAME_PATTERN.test(name) ? name : "device";
}
