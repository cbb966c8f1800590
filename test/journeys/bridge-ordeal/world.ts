// world: a gateway, a firmware-bridge and its links, each of which can be broken and mended.
// Path: ordeal → [world] → processes, devices. Touches: a folder, processes, ptys, loopback ports.

import { type ChildProcess, spawn } from "node:child_process";
import { copyFileSync, createWriteStream, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { NODE, programOf } from "../../../scripts/chain/plans.ts";
import { waitFor } from "../../support/wait-for.ts";
import { end, START_MS_MAX } from "../support/bridge.ts";
import { freePlace, type Gateway, type Place, startGateway } from "../support/gateway.ts";
import type { Commanded } from "./commander.ts";
import { LineDevice } from "./line-device.ts";
import { MqttDevice } from "./mqtt-device.ts";
import { Outlet } from "./outlet.ts";
import { Slave } from "./slave.ts";
import { SN_PREDEFINED, SnDevice } from "./sn-device.ts";

/** Of a test. */
export type After = { after(finish: () => Promise<void>): void };

export const LINKS = ["lines", "mqtt", "mqtt-sn", "modbus-rtu"] as const satisfies Commanded[];
export type LinkName = (typeof LINKS)[number];

export type ProcessName = "bridge" | "broker";

export class World {
  readonly outlets: Readonly<Record<LinkName, Outlet>>;
  readonly lines: LineDevice;
  readonly mqtt: MqttDevice;
  readonly sn: SnDevice;
  readonly slave: Slave;
  readonly #t: After;
  readonly #place: Place;
  readonly #links: readonly Record<string, unknown>[];
  #gateway: Gateway | undefined;
  #bridge: ChildProcess | undefined;

  private constructor(t: After, place: Place) {
    this.#t = t;
    this.#place = place;
    const outlet = (name: LinkName) => new Outlet(t, join(place.folder, `port-${name}`));
    this.outlets = {
      lines: outlet("lines"),
      mqtt: outlet("mqtt"),
      "mqtt-sn": outlet("mqtt-sn"),
      "modbus-rtu": outlet("modbus-rtu"),
    };
    this.#links = LINKS.map((name) => linkOf(name, this.outlets[name].path));
    this.lines = new LineDevice(this.outlets.lines);
    this.mqtt = new MqttDevice(this.outlets.mqtt);
    this.sn = new SnDevice(this.outlets["mqtt-sn"]);
    this.slave = new Slave(this.outlets["modbus-rtu"]);
  }

  /** All runs, and every device is plugged in. */
  static async open(t: After): Promise<World> {
    const world = new World(t, await freePlace(t));
    t.after(async () => {
      for (const device of world.devices) device.end();
      if (world.#bridge) await end(world.#bridge);
    });
    await world.start("broker");
    copyFileSync(world.#settings, world.#bridgeSettings);
    await world.start("bridge");
    for (const name of LINKS) await world.outlets[name].plugIn();
    return world;
  }

  /** Where settings, data and the bridge's log are. */
  get folder(): string {
    return this.#place.folder;
  }

  get url(): string {
    return `mqtt://127.0.0.1:${this.#place.mqttPort}`;
  }

  get devices() {
    return [this.lines, this.mqtt, this.sn, this.slave] as const;
  }

  /** Resolves, of the broker, when it is there. */
  async start(process: ProcessName): Promise<void> {
    if (process === "broker") await this.#startBroker();
    else this.#startBridge();
  }

  /** kill -9. */
  async kill(process: ProcessName): Promise<void> {
    const child = this.#process(process);
    if (child) await end(child);
  }

  async #startBroker(): Promise<void> {
    const broker = `mqtt://127.0.0.1:${this.#place.mqttPort}`;
    const more = { links: this.#links, bridge: { broker } };
    const gateway = startGateway(this.#t, this.#place, more);
    this.#gateway = gateway;
    await waitFor("the broker", () => gateway.status(), START_MS_MAX);
  }

  #startBridge(): void {
    const args = [programOf("sources", "firmware-bridge"), "--config", this.#bridgeSettings];
    const child = spawn(NODE, args, { stdio: ["ignore", "pipe", "inherit"] });
    child.stdout.pipe(createWriteStream(join(this.#place.folder, "bridge.log"), { flags: "a" }));
    this.#bridge = child;
  }

  /** Neither reads nor writes until it is thawed. */
  freeze(process: ProcessName): void {
    this.#process(process)?.kill("SIGSTOP");
  }

  thaw(process: ProcessName): void {
    this.#process(process)?.kill("SIGCONT");
  }

  /** Of the bridge. */
  usage(): { descriptors: number; residentBytes: number } {
    const proc = `/proc/${this.#bridge?.pid}`;
    const [, pages = 0] = readFileSync(`${proc}/statm`, "utf8").split(" ").map(Number);
    return { descriptors: readdirSync(`${proc}/fd`).length, residentBytes: pages * 4_096 };
  }

  #process(name: ProcessName): ChildProcess | undefined {
    return name === "bridge" ? this.#bridge : this.#gateway?.child;
  }

  get #settings(): string {
    return join(this.#place.folder, "sluice.toml");
  }

  /** The broker's are written anew at each of its starts. */
  get #bridgeSettings(): string {
    return join(this.#place.folder, "bridge.toml");
  }
}

function linkOf(driver: LinkName, path: string): Record<string, unknown> {
  const link = { path, driver, name: driver };
  if (driver === "lines") return { ...link, device: "box" };
  if (driver === "mqtt") return link;
  if (driver === "mqtt-sn") {
    return { ...link, "mqtt-sn": { predefined: SN_PREDEFINED, retry_seconds: 1 } };
  }
  const asked = { channel: "asked", address: 0, every_ms: 100 };
  const order = { channel: "order", address: 1, writable: true, poll: false };
  const slaves = [{ device: "meter", registers: [asked, order] }];
  // A repeat may carry a command out twice: the page of the driver says so.
  return { ...link, "modbus-rtu": { retries_max: 0, silent_ms_max: 1_000, slaves } };
}
