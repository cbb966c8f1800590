// roster: the nodes of one gateway, each with its device; what is known of them outlives us.
// Path: network → [roster] → devices, memory. Touches: the data folder, by the host's memory.

import { reasonOf, SluiceError } from "#contract/errors";
import type { About, Channel, Host } from "../../driver.ts";
import { type CommandLimits, Node } from "./node.ts";
import { type NodeRecord, Nodes } from "./nodes.ts";
import { valuesOfSensor } from "./types.ts";

export const GATEWAY = 0;

/** What a node says of itself is told, and written down, no more often: each time it is all told. */
const TELL_MS_LEAST = 250;

export interface RosterOptions {
  readonly host: Host;
  /** Names of nodes, by id. */
  readonly names: ReadonlyMap<number, string>;
  readonly limits: CommandLimits;
  readonly isMetric: boolean;
}

export class Roster {
  readonly #options: RosterOptions;
  readonly #records: Nodes;
  readonly #nodes = new Map<number, Node>();
  #saving: Promise<boolean> | undefined;
  #saveFailed = false;
  /** Nodes of which there is something to tell. */
  readonly #untold = new Set<number>();
  #telling: NodeJS.Timeout | undefined;
  /** Resolves when what was known before the last end is known again. */
  readonly ready: Promise<void>;

  constructor(options: RosterOptions) {
    this.#options = options;
    this.#records = new Nodes(options.names.keys());
    this.ready = this.#recall();
    // Of a node that is called as another link's device; its link says so when it is up.
    this.ready.catch(() => {});
    for (const id of [GATEWAY, ...options.names.keys()]) this.node(id);
  }

  /** The node of this id, which from now on is a device and nobody else's id. */
  node(id: number): Node {
    const known = this.#nodes.get(id);
    if (known) return known;
    const { host, limits } = this.#options;
    const node = new Node(id, host.device(this.#nameOf(id)), limits);
    this.#nodes.set(id, node);
    this.#records.take(id);
    return node;
  }

  /** It has presented itself, now or once. */
  isPresented(id: number): boolean {
    return this.#records.record(id) !== undefined;
  }

  protocolOf(id: number): string {
    return this.#records.record(id)?.protocol ?? "";
  }

  /** An id for a new node, on disk before anybody hears of it; undefined when there is none. */
  async giveId(): Promise<number | undefined> {
    const id = this.#records.giveId();
    if (id === undefined) {
      this.#options.host.fault("a node wants an id, and all are taken");
      return undefined;
    }
    return (await this.#isSaved()) ? id : undefined;
  }

  learn(id: number, key: "sketchName" | "sketchVersion" | "protocol", text: string): void {
    this.#records.note(id, key, text);
    this.describe(id);
  }

  learnChild(id: number, child: number, sensor: number, description: string): void {
    this.#records.noteChild(id, child, sensor, description);
    this.describe(id);
  }

  /** Tells the device's own document what is known by now, and writes it down; at once, or soon. */
  describe(id: number): void {
    this.node(id);
    this.#untold.add(id);
    if (!this.#telling) this.#tell();
  }

  /** The link is gone: what is known is told now. */
  end(): void {
    clearTimeout(this.#telling);
    this.#tell();
    clearTimeout(this.#telling);
    this.#telling = undefined;
  }

  #tell(): void {
    this.#telling = undefined;
    if (this.#untold.size === 0) return;
    for (const id of this.#untold) {
      const node = this.node(id);
      const record = this.#records.record(id);
      if (record) node.device.describe(aboutOf(record, node.hasBattery, this.#options.isMetric));
    }
    this.#untold.clear();
    void this.#isSaved();
    this.#telling = setTimeout(() => this.#tell(), TELL_MS_LEAST);
  }

  #nameOf(id: number): string {
    const { host, names } = this.#options;
    if (id === GATEWAY) return host.deviceName;
    return names.get(id) ?? nameOfNode(host, id);
  }

  async #recall(): Promise<void> {
    const { host } = this.#options;
    const value = await host.memory.read();
    if (value !== undefined && !this.#records.recall(value)) {
      host.log.warn("what was remembered of nodes is not of this driver, so begun anew");
    }
    for (const id of this.#records.ids) this.describe(id);
  }

  /** One write at a time, and none where nothing changed; false when it is not on disk. */
  #isSaved(): Promise<boolean> {
    this.#saving ??= this.#save().finally(() => {
      this.#saving = undefined;
    });
    return this.#saving;
  }

  async #save(): Promise<boolean> {
    const { host } = this.#options;
    try {
      while (this.#records.isChanged) {
        this.#records.isChanged = false;
        await host.memory.write(this.#records.remembered());
      }
      this.#saveFailed = false;
      return true;
    } catch (fault) {
      if (!(fault instanceof SluiceError)) throw fault;
      this.#records.isChanged = true;
      // Tried again with each thing that is learned, and told once.
      const why = reasonOf(fault);
      if (!this.#saveFailed) host.log.error({ why }, "nodes not remembered, and no ids given");
      this.#saveFailed = true;
      return false;
    }
  }
}

/** Of a node that the settings do not name. */
export function nameOfNode(host: Pick<Host, "name">, id: number): string {
  return `${host.name}-${id}`;
}

function aboutOf(record: NodeRecord, hasBattery: boolean, isMetric: boolean): About {
  const { sketchName, sketchVersion, children } = record;
  const channels = children.flatMap(({ id, sensor }) =>
    valuesOfSensor(sensor, isMetric).map((type): Channel => {
      return { ...type, name: `${id}/${type.name}` };
    }),
  );
  if (hasBattery) channels.push({ name: "battery", kind: "number", unit: "%" });
  return {
    ...(sketchName !== undefined && { model: sketchName }),
    ...(sketchVersion !== undefined && { firmware: sketchVersion }),
    channels,
  };
}
