// document: what is known of a device, as it stands in its retained document.
// Path: driver, settings → [document] → device → broker. Touches: nothing.

import type { About, Channel } from "../driver.ts";
import type { ChannelRules } from "./channel-rules.ts";

/** Channels of one document, described or seen. */
export const CHANNELS_MAX = 200;

export interface DocumentChannel {
  readonly name: string;
  readonly unit?: string;
  readonly kind?: "number" | "boolean" | "text";
  readonly writable?: true;
  readonly retain?: true;
}

/** The retained payload of sluice/device/<name>, as JSON. */
export interface DeviceDocument {
  readonly name: string;
  /** The gateway whose bridge wrote it. */
  readonly bridge: string;
  readonly link: string;
  readonly driver: string;
  readonly model?: string;
  readonly firmware?: string;
  readonly state: "starting" | "online" | "offline";
  /** Of what is offline. */
  readonly why?: string;
  /** The time of the last change of state, ISO 8601. */
  readonly since: string;
  readonly channels: readonly DocumentChannel[];
}

export type Origin = Pick<DeviceDocument, "name" | "bridge" | "link" | "driver">;

/** Where a device's document stands. */
export function documentTopic(device: string): string {
  return `sluice/device/${device}`;
}

/** What was said and seen of a device so far. */
export class Description {
  readonly #rules: ChannelRules;
  readonly #settings: About;
  #about: About = {};
  /** By name; undefined: only seen, or only in the settings. */
  readonly #channels = new Map<string, Channel | undefined>();

  /** The settings' model and firmware go before the driver's. */
  constructor(rules: ChannelRules, settings: About) {
    this.#rules = rules;
    this.#settings = settings;
    for (const name of rules.named) this.#add(name, undefined);
  }

  get model(): string | undefined {
    return this.#settings.model ?? this.#about.model;
  }

  get firmware(): string | undefined {
    return this.#settings.firmware ?? this.#about.firmware;
  }

  describe(about: About): void {
    this.#about = { ...this.#about, ...about };
    if (!about.channels) return;
    for (const [name, channel] of this.#channels) if (channel) this.#channels.set(name, undefined);
    for (const channel of about.channels) this.#add(channel.name, channel);
  }

  has(name: string): boolean {
    return this.#channels.has(name);
  }

  channel(name: string): Channel | undefined {
    return this.#channels.get(name);
  }

  /** A message of this channel came; is that news? */
  saw(name: string): boolean {
    if (this.#channels.has(name)) return false;
    return this.#add(name, undefined);
  }

  get channels(): DocumentChannel[] {
    return [...this.#channels].map(([name, channel]) => {
      const { unit, kind, policy } = this.#rules.of(name, channel);
      return {
        name,
        ...(unit !== undefined && { unit }),
        ...(kind !== undefined && { kind }),
        ...(channel?.writable && { writable: true }),
        ...(policy.retain && { retain: true }),
      };
    });
  }

  #add(name: string, channel: Channel | undefined): boolean {
    if (!this.#channels.has(name) && this.#channels.size >= CHANNELS_MAX) return false;
    this.#channels.set(name, channel);
    return true;
  }
}
