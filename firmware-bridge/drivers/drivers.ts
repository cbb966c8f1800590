// drivers: finds the driver that a link's settings name.
// Path: links → [drivers] → devices. Touches: nothing.

import type { Log } from "#runtime/log";
import type { LinkSettings } from "#runtime/settings-schema";
import type { Driver, Host } from "../driver.ts";
import { LinesCodec } from "./lines.ts";
import { StreamDriver } from "./stream-driver.ts";

/** The driver of a link, with its devices at the broker from now on. */
export function createDriver(settings: LinkSettings, host: Host, log: Log): Driver {
  switch (settings.driver) {
    case "lines":
      return new StreamDriver(() => new LinesCodec(settings.lines), host, log);
  }
}
