// fake-host: what a driver has around it in a test: a host without a broker, and links of given chunks.
// Path: tests → [fake-host] → driver. Touches: nothing.

import type {
  About,
  CarryOut,
  Chunk,
  Command,
  Device,
  Host,
  Link,
  Message,
  Outcome,
} from "../../firmware-bridge/driver.ts";
import { capturedLog } from "./captured-log.ts";

/** A device that keeps all that it is told. */
export class FakeDevice implements Device {
  readonly name: string;
  readonly messages: Message[] = [];
  about: About = {};
  /** Why it is offline; undefined while it is online. */
  whyOffline: string | undefined = "not there yet";
  #carryOut: CarryOut | undefined;

  constructor(name: string) {
    this.name = name;
  }

  /** Each message as `channel=payload`. */
  get published(): string[] {
    return this.messages.map(({ channel, payload }) => `${channel}=${Buffer.from(payload)}`);
  }

  publish(message: Message): Promise<void> | undefined {
    this.messages.push(message);
    return undefined;
  }

  online(carryOut: CarryOut): void {
    this.#carryOut = carryOut;
    this.whyOffline = undefined;
  }

  offline(reason: string): void {
    this.whyOffline = reason;
  }

  describe(about: About): void {
    this.about = { ...this.about, ...about };
  }

  /** Sends it a command, to a channel or to the whole device. */
  command(payload: string | Uint8Array, channel?: Command["channel"]): Promise<Outcome> {
    if (!this.#carryOut) throw new Error(`${this.name} was never online`);
    return this.#carryOut({ channel, payload: Buffer.from(payload as string) });
  }
}

export interface FakeHost extends Host {
  readonly devices: ReadonlyMap<string, FakeDevice>;
  /** The device of that name, which the driver must have asked for. */
  known(name: string): FakeDevice;
  readonly faults: string[];
  readonly frames: () => number;
}

export function fakeHost(name = "box", some: Partial<Host> = {}): FakeHost {
  const devices = new Map<string, FakeDevice>();
  const faults: string[] = [];
  let frames = 0;
  let remembered: unknown;
  return {
    name,
    deviceName: name,
    log: capturedLog().log,
    door: {
      open: () => {
        throw new Error("this host has no broker");
      },
      username: undefined,
      password: undefined,
    },
    memory: {
      read: async () => remembered,
      write: async (value) => {
        remembered = structuredClone(value);
      },
    },
    device(device, about) {
      const made = devices.get(device) ?? new FakeDevice(device);
      devices.set(device, made);
      if (about) made.describe(about);
      return made;
    },
    countFrames(count) {
      frames += count;
    },
    fault: (reason) => faults.push(reason),
    devices,
    known(device) {
      const made = devices.get(device);
      if (!made) throw new Error(`no device ${device}; there are ${[...devices.keys()]}`);
      return made;
    },
    faults,
    frames: () => frames,
    ...some,
  };
}

/** A link that gives these chunks and ends; `written` keeps what it was given. */
export function fakeLink(chunks: readonly (string | Uint8Array)[] | AsyncIterable<Chunk>) {
  const written: Buffer[] = [];
  const link: Link = {
    path: "/dev/box",
    baudRate: 115_200,
    readable: Symbol.asyncIterator in chunks ? chunks : chunksOf(chunks),
    write: async (bytes) => void written.push(Buffer.from(bytes)),
  };
  return { link, written };
}

async function* chunksOf(chunks: readonly (string | Uint8Array)[]): AsyncGenerator<Chunk> {
  for (const [index, chunk] of chunks.entries()) {
    yield { bytes: Buffer.from(chunk as string), receivedAtMs: 1_000 + index };
  }
}
