// kind: what a driver is to the table of drivers: the schema of its settings, and how it begins.
// Path: each driver → [kind] → drivers. Touches: nothing.

import type { GenericSchema } from "valibot";
import type { About, Codec, Driver, Host } from "../driver.ts";
import { StreamDriver } from "./stream-driver.ts";

export interface DriverKind<Settings = unknown> {
  /** Of the table in [[links]] that has the driver's name; {} must give its defaults, or say what is missing. */
  readonly settings: GenericSchema<unknown, Settings>;
  /** The driver of one link, for as long as the process lives; it names its devices now. */
  create(settings: Settings, host: Host): Driver;
}

/**
 * A driver that is a codec: the link is one device, and each time that it is up takes a new codec.
 * `about` says what is known of the device before it says anything.
 */
export function codecDriver<Settings>(
  settings: GenericSchema<unknown, Settings>,
  createCodec: (settings: Settings) => Codec,
  about?: (settings: Settings) => About,
): DriverKind<Settings> {
  return {
    settings,
    create: (values, host) => new StreamDriver(() => createCodec(values), host, about?.(values)),
  };
}
