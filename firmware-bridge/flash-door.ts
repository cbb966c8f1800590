// flash-door: the way between flashing and the broker, by the client that is the bridge's own.
// Path: flash → [flash-door] → devices, and back. Touches: nothing.

import { FLASH_COMMANDS } from "#contract/flash";
import type { FlashSettings } from "#runtime/settings-flash";
import type { Devices } from "./devices/devices.ts";
import type { FlashClient, FlashCommand } from "./flash/flash.ts";

type Listener = NonNullable<ConstructorParameters<typeof Devices>[2]>;
type Publishing = Pick<Devices, "say" | "shout">;

/** Stands between the two, of which the devices are there first. */
export class FlashDoor {
  /** What the devices' side subscribes to; undefined where the settings allow no such commands. */
  readonly listener: Listener | undefined;
  #handler: ((command: FlashCommand) => void) | undefined;

  constructor(settings: FlashSettings | undefined) {
    if (settings?.mqtt) this.listener = { filter: FLASH_COMMANDS, hear: (it) => this.#hear(it) };
  }

  client(devices: Publishing): FlashClient {
    return {
      listen: (handler) => {
        this.#handler = handler;
      },
      publish: ({ topic, payload, isLasting, retain, correlationData }) => {
        if (!isLasting) devices.shout(topic, Buffer.from(payload));
        else {
          const properties = correlationData && { correlationData: Buffer.from(correlationData) };
          devices.say({ topic, payload, retain, properties });
        }
      },
    };
  }

  #hear({ topic, payload, retain, dup, properties }: Parameters<Listener["hear"]>[0]): void {
    this.#handler?.({
      topic,
      payload: Buffer.from(payload),
      retain,
      dup,
      responseTopic: properties?.responseTopic,
      correlationData: properties?.correlationData,
    });
  }
}
