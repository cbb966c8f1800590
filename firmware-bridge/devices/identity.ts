// identity: who each device of a link is at the broker, by the settings.
// Path: settings → [identity] → device. Touches: the files of the secrets.

import { readSecret } from "#runtime/files";
import type { DeviceSettings } from "#runtime/settings-devices";
import type { LinkSettings } from "#runtime/settings-links";
import type { BrokerDoor } from "../driver.ts";
import type { Identity } from "./device.ts";

/** What a table of a device and that of its link have in common. */
type Words = Partial<Omit<DeviceSettings, "name">>;

/**
 * A device's own table goes before the link, which speaks of its one device, and that before
 * [bridge]. Reads the secrets' files once, now; @throws SluiceError CERTIFICATE_UNREADABLE.
 */
export function identityOf(
  link: LinkSettings,
  deviceName: string,
  bridge: BrokerDoor,
): (device: string) => Identity {
  const linkDoor = doorOf(link, bridge);
  const own = new Map<string, { readonly words: Words; readonly door: BrokerDoor }>();
  for (const words of link.devices) own.set(words.name, { words, door: doorOf(words, linkDoor) });
  return (device) => {
    const { words = {}, door = linkDoor } = own.get(device) ?? {};
    const ofLink: Words = device === deviceName ? link : {};
    const model = words.model ?? ofLink.model;
    const firmware = words.firmware ?? ofLink.firmware;
    return {
      clientId: words.client_id ?? ofLink.client_id ?? `serial-${device}`,
      door,
      about: {
        ...(model !== undefined && { model }),
        ...(firmware !== undefined && { firmware }),
      },
      silentMsMax: (words.silent_seconds_max ?? link.silent_seconds_max) * 1_000,
    };
  };
}

/** A user of one's own comes with a password of one's own, or with none. */
function doorOf({ username, password_file }: Words, above: BrokerDoor): BrokerDoor {
  if (username === undefined && password_file === undefined) return above;
  const password = password_file === undefined ? undefined : readSecret(password_file);
  return { open: above.open, username: username ?? above.username, password };
}
