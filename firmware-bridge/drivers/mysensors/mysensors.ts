// mysensors: the driver of MySensors' serial gateways: each node of the radio network is a device.
// Path: link → network → [mysensors] → devices, and back. Touches: nothing.

import * as v from "valibot";
import { SluiceError } from "#contract/errors";
import { eachOnce, flag, name, whole } from "#runtime/settings-values";
import type { Driver, Host, Link } from "../../driver.ts";
import type { DriverKind } from "../kind.ts";
import { EVERYBODY } from "./codec.ts";
import { Network } from "./network.ts";
import { nameOfNode, Roster } from "./roster.ts";

const NamedNode = v.strictObject({ id: whole(1, 254), name });

const Settings = v.strictObject({
  metric: v.optional(flag(), true),
  give_ids: v.optional(flag(), true),
  ack_ms_max: v.optional(whole(50, 60_000), 1_000),
  tries_max: v.optional(whole(1, 10), 3),
  sleep_seconds_max: v.optional(whole(1, 604_800), 3_600),
  nodes: v.optional(
    v.pipe(
      v.array(NamedNode),
      eachOnce(({ id }) => id, "allowed: each id once"),
      eachOnce((it) => it.name, "allowed: each name once"),
    ),
    [],
  ),
});

export type MySensorsSettings = Readonly<v.InferOutput<typeof Settings>>;

/** @throws SluiceError SETTINGS_INVALID when a node has the gateway's name, or an unnamed node's. */
export const mysensors: DriverKind<MySensorsSettings> = {
  settings: Settings,
  create: (settings, host) => new MySensorsDriver(settings, host),
};

class MySensorsDriver implements Driver {
  readonly #settings: MySensorsSettings;
  readonly #host: Host;
  readonly #roster: Roster;

  constructor(settings: MySensorsSettings, host: Host) {
    this.#settings = settings;
    this.#host = host;
    this.#roster = new Roster({
      host,
      names: namesOf(settings, host),
      isMetric: settings.metric,
      limits: {
        ackMsMax: settings.ack_ms_max,
        triesMax: settings.tries_max,
        sleepMsMax: settings.sleep_seconds_max * 1_000,
      },
    });
  }

  async run(link: Link): Promise<void> {
    // Before that nobody knows which ids are free.
    await this.#roster.ready;
    const { give_ids, metric } = this.#settings;
    const shared = { host: this.#host, roster: this.#roster, link };
    const network = new Network({ ...shared, givesIds: give_ids, isMetric: metric });
    await network.untilEnd().finally(() => this.#roster.end());
  }
}

function namesOf({ nodes }: MySensorsSettings, host: Host): Map<number, string> {
  const names = new Map<number, string>();
  const taken = new Set([host.deviceName]);
  // Those of nodes that the settings do not name.
  for (let id = 1; id < EVERYBODY; id += 1) taken.add(nameOfNode(host, id));
  for (const node of nodes) {
    taken.delete(nameOfNode(host, node.id));
    if (taken.has(node.name)) {
      const message = `node ${node.id} of link ${host.name}: the name "${node.name}" is taken`;
      throw new SluiceError("SETTINGS_INVALID", `${message}; give each node its own`);
    }
    names.set(node.id, node.name);
  }
  return names;
}
