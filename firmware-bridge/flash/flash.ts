// flash: flashing of what is plugged in: by `sluice flash`, and by MQTT where the settings allow it.
// Path: cli, broker → [flash] → links. Touches: a unix socket, the file of the key.

import type { FlashEvent } from "#contract/flash";
import { PatientServer } from "#runtime/listen";
import type { Log } from "#runtime/log";
import type { FlashSettings, LinkFlashSettings } from "#runtime/settings-flash";
import { serveControl } from "./control.ts";
import { Flasher, type FlashLink } from "./flasher.ts";
import { readImage } from "./images.ts";
import { programmerOf } from "./programmer.ts";
import { readPublicKey } from "./signature.ts";
import { type FlashClient, FlashTopics } from "./topics.ts";

export type { FlashClient, FlashCommand } from "./topics.ts";

/** A link with a table [links.flash]. */
export interface LendingLink {
  readonly name: string;
  readonly settings: LinkFlashSettings;
  readonly lend: FlashLink["lend"];
}

export interface FlashOptions {
  readonly settings: FlashSettings;
  /** Path of the unix socket. */
  readonly control: string;
  readonly links: readonly LendingLink[];
  /** Undefined: nothing is told to the broker, nor taken from it. */
  readonly client: FlashClient | undefined;
  readonly log: Log;
  readonly onEvent?: (event: FlashEvent) => void;
}

/**
 * Takes images from now on, until it is stopped, which ends a flash that is under way.
 * @throws SluiceError CERTIFICATE_UNREADABLE when the public key cannot be used.
 */
export function startFlash(options: FlashOptions): { stop(): Promise<void> } {
  const { settings, client, log } = options;
  const topics = client && new FlashTopics({ client, log });
  const flasher = new Flasher({
    links: new Map(options.links.map((link) => [link.name, flashLink(link)])),
    key: settings.public_key_file ? readPublicKey(settings.public_key_file) : undefined,
    secondsMax: settings.flash_seconds_max,
    searchPath: process.env.PATH ?? "/usr/bin:/bin",
    log,
    onEvent(event) {
      topics?.tell(event);
      options.onEvent?.(event);
    },
  });
  const { folder, image_bytes_max: imageBytesMax } = settings;
  if (settings.mqtt && folder !== undefined) {
    topics?.listen(flasher, (wanted) => readImage(folder, wanted, imageBytesMax));
  }
  const control = new PatientServer(
    () => serveControl({ path: options.control, imageBytesMax, flasher, log }),
    log,
  );
  return {
    async stop() {
      await flasher.stop();
      await control.close();
    },
  };
}

function flashLink({ settings, lend }: LendingLink): FlashLink {
  return { programmer: programmerOf(settings), lend };
}
