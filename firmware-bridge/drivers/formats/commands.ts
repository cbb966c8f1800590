// commands: what is sent for a command: by a template of its channel, of all, or by the format.
// Path: content → [commands]. Touches: nothing.

import assert from "node:assert";
import type { Command, Encoded } from "../../driver.ts";
import { bytes, type Format, refused, textOf } from "./format.ts";
import { fits } from "./regex.ts";
import type { CommandSettings } from "./settings.ts";
import { Template } from "./template.ts";

export interface CommandsSettings {
  /** For channels without a template of their own; without it, as the format says it. */
  readonly command?: string | undefined;
  readonly commands: readonly CommandSettings[];
}

interface Known {
  readonly settings: CommandSettings;
  readonly send: Template;
}

export class Commands {
  readonly #format: Format;
  readonly #known: ReadonlyMap<string, Known>;
  readonly #other: Template | undefined;

  constructor(settings: CommandsSettings, format: Format) {
    this.#format = format;
    this.#known = new Map(
      settings.commands.map((it) => [it.channel, { settings: it, send: new Template(it.send) }]),
    );
    this.#other = settings.command === undefined ? undefined : new Template(settings.command);
  }

  encode({ channel, payload }: Command): Encoded {
    if (channel === undefined) return bytes(payload);
    if (channel === "") return refused("the channel is empty");
    const known = this.#known.get(channel);
    if (known) return encodeKnown(known, channel, payload);
    if (channel.includes("/")) return refused("a channel is one topic level");
    if (!this.#other) return this.#format.encode(channel, payload);
    // Else the name of one channel could bring the words of another's command with it.
    if (/\s/.test(channel)) return refused("the channel holds a blank");
    return filled(this.#other, channel, payload);
  }
}

function encodeKnown({ settings, send }: Known, channel: string, payload: Uint8Array): Encoded {
  const { allow, pattern } = settings;
  const text = textOf(payload);
  if (allow && (text === undefined || !allow.includes(text))) {
    return refused(`${channel} takes ${allow.map((it) => JSON.stringify(it)).join(", ")}`);
  }
  if (pattern !== undefined && (text === undefined || !fits(pattern, text))) {
    return refused(`${channel} takes what fits ${pattern}`);
  }
  return filled(send, channel, payload);
}

function filled(template: Template, channel: string, payload: Uint8Array): Encoded {
  const content = template.fill((name) => (name === "channel" ? channel : payload));
  assert(content, "a command has a channel and a payload");
  return bytes(content);
}
