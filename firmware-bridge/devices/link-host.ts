// link-host: what the driver of one link has around it: its devices, its memory, its counts.
// Path: driver → [link-host] → device. Touches: the data folder, by memory.ts.

import type { Log } from "#runtime/log";
import type { About, BrokerDoor, Device, Host, Memory } from "../driver.ts";
import type { MqttDevice } from "./device.ts";

/** Faults are told in the log at most so often. */
const FAULT_LOG_MS_LEAST = 60_000;

export interface LinkHostOptions {
  readonly name: string;
  readonly deviceName: string;
  readonly path: string;
  readonly log: Log;
  readonly door: BrokerDoor;
  readonly memory: Memory;
  readonly connect: (name: string) => MqttDevice;
  readonly nowMs?: () => number;
}

export class LinkHost implements Host {
  readonly name: string;
  readonly deviceName: string;
  readonly path: string;
  readonly log: Log;
  readonly door: BrokerDoor;
  readonly memory: Memory;
  readonly #connect: (name: string) => MqttDevice;
  readonly #nowMs: () => number;
  readonly #devices = new Map<string, MqttDevice>();
  #frames = 0;
  #faults = 0;
  #faultLoggedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: LinkHostOptions) {
    this.name = options.name;
    this.deviceName = options.deviceName;
    this.path = options.path;
    this.log = options.log;
    this.door = options.door;
    this.memory = options.memory;
    this.#connect = options.connect;
    this.#nowMs = options.nowMs ?? (() => performance.now());
  }

  get frames(): number {
    return this.#frames;
  }

  get faults(): number {
    return this.#faults;
  }

  device(name: string, about?: About): Device {
    const device = this.#devices.get(name) ?? this.#connect(name);
    this.#devices.set(name, device);
    if (about) device.describe(about);
    return device;
  }

  countFrames(count: number): void {
    this.#frames += count;
  }

  fault(reason: string, frame?: Uint8Array): void {
    this.#faults += 1;
    const nowMs = this.#nowMs();
    if (nowMs - this.#faultLoggedAtMs < FAULT_LOG_MS_LEAST) return;
    this.#faultLoggedAtMs = nowMs;
    const bytes = frame && Buffer.from(frame.subarray(0, 64)).toString("hex");
    this.log.warn({ link: this.path, reason, bytes, faults: this.#faults }, "not understood");
  }

  /** The link is gone, and all devices with it. */
  offline(reason: string): void {
    for (const device of this.#devices.values()) device.offline(reason);
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#devices.values()].map((device) => device.stop()));
  }
}
