// commands: what a command means to a node.
// Path: device → [commands] → node. Touches: nothing.

import type { Command } from "../../driver.ts";
import { CODEC_LIMITS, ITSELF, type SensorMessage } from "./codec.ts";
import { COMMAND, INTERNAL, valueNumber } from "./types.ts";

export type Wanted =
  | { readonly kind: "message"; readonly message: SensorMessage }
  | { readonly kind: "refused"; readonly reason: string };

const GATEWAY = 0;
const CHILD_MAX = 254;
const VALUE_CHANNEL = /^(\d{1,3})\/([a-z0-9_]+)$/;

/** The message that carries a command out; `ack` where the node has to confirm it. */
export function messageOf(node: number, { channel, payload }: Command): Wanted {
  const [, child, type] = VALUE_CHANNEL.exec(channel ?? "") ?? [];
  if (child !== undefined && type !== undefined) {
    return valueMessage(node, Number(child), type, payload);
  }
  const itself = { node, child: ITSELF, command: COMMAND.internal, ack: false };
  const none = new Uint8Array(0);
  switch (channel) {
    case "reboot":
      return wanted({ ...itself, type: INTERNAL.reboot, payload: none });
    case "presentation":
      return wanted({ ...itself, type: INTERNAL.presentation, payload: none });
    case "inclusion":
      return node === GATEWAY
        ? inclusionMessage(payload)
        : refused("inclusion is a command of the gateway");
    default:
      return refused("a channel is <child>/<type>, as 1/status; or reboot, presentation");
  }
}

function valueMessage(node: number, child: number, name: string, payload: Uint8Array): Wanted {
  const type = valueNumber(name);
  const { payloadBytesMax } = CODEC_LIMITS;
  if (child > CHILD_MAX) return refused(`a child is a number from 0 to ${CHILD_MAX}`);
  if (type === undefined) return refused(`no type is called ${name}`);
  if (payload.includes(0x0a) || payload.includes(0x0d)) return refused("a value is one line");
  if (payload.length > payloadBytesMax) {
    return refused(`the value is longer than ${payloadBytesMax} bytes`);
  }
  return wanted({ node, child, command: COMMAND.set, ack: true, type, payload });
}

function inclusionMessage(payload: Uint8Array): Wanted {
  const state = Buffer.from(payload).toString("latin1");
  if (state !== "0" && state !== "1") return refused("inclusion is 0 or 1");
  const { internal } = COMMAND;
  const type = INTERNAL.inclusionMode;
  return wanted({ node: GATEWAY, child: ITSELF, command: internal, ack: false, type, payload });
}

function wanted(message: SensorMessage): Wanted {
  return { kind: "message", message };
}

function refused(reason: string): Wanted {
  return { kind: "refused", reason };
}
