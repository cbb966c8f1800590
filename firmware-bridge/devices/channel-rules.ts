// channel-rules: what the settings and the driver say of each channel of one device, in one.
// Path: settings, driver → [channel-rules] → policy, document. Touches: nothing.

import type { ChannelSettings } from "#runtime/settings-devices";
import type { Channel, Policy } from "../driver.ts";

/** A channel as it is told of: the settings' words over the driver's. */
export interface Rule {
  readonly unit?: string;
  readonly kind?: "number" | "boolean" | "text";
  readonly policy: Policy;
}

const NO_POLICY: Policy = {};
const NO_RULE: Rule = { policy: NO_POLICY };
const ALL_OTHERS = "*";

export class ChannelRules {
  readonly #exact = new Map<string, ChannelSettings>();
  readonly #others: ChannelSettings | undefined;

  /** Of the settings' channels those of this device; what names the device goes before what does not. */
  constructor(device: string, settings: readonly ChannelSettings[]) {
    const own = settings.filter((it) => it.device === undefined || it.device === device);
    const general = own.filter((it) => it.device === undefined);
    for (const it of [...general, ...own.filter((it) => it.device !== undefined)]) {
      this.#exact.set(it.name, it);
    }
    this.#others = this.#exact.get(ALL_OTHERS);
    this.#exact.delete(ALL_OTHERS);
  }

  /** Those that the settings name. */
  get named(): Iterable<string> {
    return this.#exact.keys();
  }

  of(name: string, described: Channel | undefined): Rule {
    const settings = this.#exact.get(name) ?? this.#others;
    if (!settings && !described) return NO_RULE;
    const unit = settings?.unit ?? described?.unit;
    const kind = settings?.kind ?? described?.kind;
    return {
      ...(unit !== undefined && { unit }),
      ...(kind !== undefined && { kind }),
      policy: policyOf(settings, described?.policy),
    };
  }
}

function policyOf(settings: ChannelSettings | undefined, driver = NO_POLICY): Policy {
  if (!settings) return driver;
  const { retain, throttle_ms, dead_band, heartbeat_seconds } = settings;
  return {
    ...driver,
    ...(retain !== undefined && { retain }),
    ...(throttle_ms !== undefined && { throttleMs: throttle_ms }),
    ...(dead_band !== undefined && { deadBand: dead_band }),
    ...(heartbeat_seconds !== undefined && { heartbeatMs: heartbeat_seconds * 1_000 }),
  };
}
