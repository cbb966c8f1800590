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

const NAME_CHARACTERS_MAX = 63;
/** No link can have this name: names begin with a letter or a digit. */
const JOURNAL_FILE = "_commands.json";

export class Devices {
  readonly #settings: Pick<Settings, "bridge" | "data" | "name">;
  readonly #door: BrokerDoor;
  readonly #folder: string;
  readonly #log: Log;
  readonly #journal: CommandJournal;
  readonly #own: OwnClient;
  readonly #hosts = new Map<string, LinkHost>();
  /** Which device has it. */
  readonly #clientIds = new Map<string, string>();

  /** Reads the secrets' files; @throws SluiceError CERTIFICATE_UNREADABLE. */
  constructor(settings: Pick<Settings, "bridge" | "data" | "name">, log: Log, listener?: Listener) {
    const { bridge, data, name } = settings;
    this.#settings = settings;
    this.#door = brokerDoor(bridge);
    this.#folder = join(data, "firmware-bridge");
    this.#log = log;
    this.#journal = new CommandJournal(new MemoryFile(join(this.#folder, JOURNAL_FILE), log));
    this.#own = new OwnClient({
      clientId: bridge.client_id,
      door: this.#door,
      bridge: name,
      discoveryPrefix: bridge.discovery_prefix,
      listener,
      isKnown: (device) => [...this.#hosts.values()].some((host) => host.has(device)),
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
      const message = `links ${other} and ${where} are both called "${name}"; set name`;
      throw new SluiceError("SETTINGS_INVALID", message);
    }
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
    await this.#journal.flush();
  }

  #connect(
    name: string,
    link: LinkSettings,
    linkName: string,
    identity: ReturnType<ReturnType<typeof identityOf>>,
  ): MqttDevice {
    const { bridge } = this.#settings;
    this.#warnOfTwins(name, linkName, identity.clientId);
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

  /** Of two clients with one id each ends the other's connection, without end (MQTT 5.0 §3.1.4). */
  #warnOfTwins(device: string, link: string, clientId: string): void {
    const place = `device ${device} of link ${link}`;
    const other = this.#clientIds.get(clientId);
    this.#clientIds.set(clientId, place);
    const isTwin =
      (other !== undefined && other !== place) || clientId === this.#settings.bridge.client_id;
    if (!isTwin) return;
    const mend = "give each a client_id, or a name, of its own";
    this.#log.error(
      { clientId, one: other ?? "the bridge itself", other: place, mend },
      "client id twice",
    );
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
