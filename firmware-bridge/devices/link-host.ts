// link-host: what the driver of one link has around it: its devices, its memory, its counts.
// Path: driver → [link-host] → device. Touches: the data folder, by memory.ts.

import type { Log } from "#runtime/log";
import type { About, BrokerDoor, Device, Host, Memory } from "../driver.ts";
import { DebugTopic } from "./debug-topic.ts";
import type { DeviceCounts, MqttDevice } from "./device.ts";

/** Faults are told in the log at most so often. */
const FAULT_LOG_MS_LEAST = 60_000;

export interface LinkHostOptions {
  readonly name: string;
  readonly deviceName: string;
  readonly path: string;
  readonly log: Log;
  readonly door: BrokerDoor;
  readonly memory: Memory;
  readonly debugFramesPerSecondMax: number;
  readonly shout: (topic: string, payload: Buffer) => boolean;
  readonly connect: (name: string) => MqttDevice;
  readonly nowMs?: () => number;
}

/** A device as a status tells of it. */
export interface DeviceStatus extends DeviceCounts {
  readonly name: string;
  readonly isOnline: boolean;
  readonly why: string | undefined;
  readonly sinceMs: number;
}

export interface LinkCounts {
  /** That were understood. */
  readonly frames: number;
  /** Frames that were not. */
  readonly faults: number;
  readonly devices: readonly DeviceStatus[];
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
  readonly #debug: DebugTopic;
  readonly #devices = new Map<string, MqttDevice>();
  #frames = 0;
  #faults = 0;
  #faultLoggedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: LinkHostOptions) {
    const { name, debugFramesPerSecondMax, shout } = options;
    this.name = name;
    this.deviceName = options.deviceName;
    this.path = options.path;
    this.log = options.log;
    this.door = options.door;
    this.memory = options.memory;
    this.#connect = options.connect;
    this.#nowMs = options.nowMs ?? (() => performance.now());
    this.#debug = new DebugTopic({
      link: name,
      framesPerSecondMax: debugFramesPerSecondMax,
      shout,
    });
  }

  /** Its name and where it is, in one short text. */
  get place(): string {
    return `link ${this.name} (${this.path})`;
  }

  get counts(): LinkCounts {
    const devices = [...this.#devices.values()].map((device) => ({
      name: device.name,
      isOnline: device.isOnline,
      why: device.why,
      sinceMs: device.sinceMs,
      ...device.counts,
    }));
    return { frames: this.#frames, faults: this.#faults, devices };
  }

  /** Are there any of which the bridge is the MQTT client? */
  get hasDevices(): boolean {
    return this.#devices.size > 0;
  }

  has(name: string): boolean {
    return this.#devices.has(name);
  }

  device(name: string, about?: About): Device {
    const device = this.#devices.get(name) ?? this.#newDevice(name);
    if (about) device.describe(about);
    return device;
  }

  countFrames(count: number): void {
    this.#frames += count;
  }

  fault(reason: string, frame?: Uint8Array): void {
    this.#faults += 1;
    const nowMs = this.#nowMs();
    this.#debug.show(reason, frame, nowMs);
    if (nowMs - this.#faultLoggedAtMs < FAULT_LOG_MS_LEAST) return;
    this.#faultLoggedAtMs = nowMs;
    const bytes = frame && Buffer.from(frame.subarray(0, 64)).toString("hex");
    this.log.warn({ reason, bytes, faults: this.#faults }, "not understood");
  }

  /** The link is gone, and all devices with it. */
  offline(reason: string): void {
    for (const device of this.#devices.values()) device.offline(reason);
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#devices.values()].map((device) => device.stop()));
  }

  #newDevice(name: string): MqttDevice {
    const device = this.#connect(name);
    this.#devices.set(name, device);
    return device;
  }
}
