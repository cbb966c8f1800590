// settings-links: the keys of [[links]] and [bridge]; the tables of the drivers are their own.
// Path: settings-schema → [settings-links]. Touches: nothing.

import * as v from "valibot";
import { DEVICE_KEYS } from "./settings-devices.ts";
import { LinkFlash } from "./settings-flash.ts";
import {
  absolutePath,
  flag,
  isHostPort,
  isListenAddress,
  name,
  oneOf,
  path,
  text,
  whole,
  withoutPassword,
} from "./settings-values.ts";

/**
 * The schema of each driver's own table, by the driver's name. Only the firmware-bridge has them:
 * other processes pass over the tables of drivers, which concern nobody else.
 */
export type DriverTables = Readonly<Record<string, v.GenericSchema>>;

const STATUS_ALLOWED = 'allowed: host:port, as "127.0.0.1:9882", "unix:/path", or "none"';

const statusAddress = v.pipe(
  v.string(STATUS_ALLOWED),
  v.check((text) => text === "none" || isListenAddress(text), STATUS_ALLOWED),
);

export const Bridge = v.strictObject({
  broker: v.optional(
    v.pipe(
      v.string(),
      v.check(
        (text) => /^unix:\/.+/.test(text) || (URL.canParse(text) && /^mqtts?:/.test(text)),
        'allowed: "mqtt://host:port", "mqtts://host:port" or "unix:/path"',
      ),
      withoutPassword(),
    ),
    "mqtt://127.0.0.1:1883",
  ),
  username: v.optional(v.string()),
  password_file: v.optional(path),
  ca_file: v.optional(path),
  unacknowledged_max: v.optional(whole(1, 10_000), 100),
  client_id: v.optional(text, "firmware-bridge"),
  received_property: v.optional(flag(), true),
  discovery_prefix: v.optional(
    v.pipe(
      v.string("allowed: the beginning of a topic"),
      v.check(
        (it) => /^[^+#$/\p{Control}][^+#\p{Control}]*$/u.test(it) && !it.endsWith("/"),
        'allowed: the beginning of a topic, as "homeassistant"',
      ),
    ),
  ),
  control: v.optional(absolutePath, "/run/sluice-bridge/control.sock"),
  status: v.optional(v.strictObject({ address: v.optional(statusAddress, "127.0.0.1:9882") }), {}),
});

const USB_ID_ALLOWED = 'allowed: four hexadecimal digits, as "1a86"';

const usbId = v.pipe(
  v.string(USB_ID_ALLOWED),
  v.regex(/^[0-9a-fA-F]{4}$/, USB_ID_ALLOWED),
  v.toLowerCase(),
);

const Match = v.strictObject({
  vid: usbId,
  pid: usbId,
  serial: v.optional(text),
  interface: v.optional(whole(0, 255)),
});

const LINK_ADDRESS_ALLOWED = 'allowed: "tcp://host:port" or "udp://host:port"';

const linkAddress = v.pipe(
  v.string(LINK_ADDRESS_ALLOWED),
  v.check(
    (value) => /^(?:tcp|udp):\/\//.test(value) && isHostPort(value.slice("tcp://".length)),
    LINK_ADDRESS_ALLOWED,
  ),
);

const Rs485 = v.strictObject({
  rts_on_send: v.optional(flag(), true),
  rts_after_send: v.optional(flag(), false),
  delay_before_send_ms: v.optional(whole(0, 100), 0),
  delay_after_send_ms: v.optional(whole(0, 100), 0),
  terminate: v.optional(flag(), false),
});

/** What only a serial port has; for an address it says nothing. */
const SERIAL_KEYS = {
  baud_rate: v.optional(whole(50, 4_000_000), 115_200),
  data_bits: v.optional(v.picklist([5, 6, 7, 8], "allowed: 5, 6, 7, 8"), 8),
  stop_bits: v.optional(v.picklist([1, 2], "allowed: 1, 2"), 1),
  parity: v.optional(oneOf("none", "even", "odd"), "none"),
  hardware_flow: v.optional(flag(), false),
  software_flow: v.optional(flag(), false),
  reset_on_open: v.optional(flag(), false),
  dtr: v.optional(flag()),
  rts: v.optional(flag()),
  settle_ms: v.optional(whole(0, 60_000), 0),
  rs485: v.optional(Rs485),
};

const LINK_PATH_ALLOWED = "allowed: a path that begins with /; a network's address is address";

const linkPath = v.pipe(v.string(LINK_PATH_ALLOWED), v.startsWith("/", LINK_PATH_ALLOWED));

const LINK_KEYS = {
  path: v.optional(linkPath),
  match: v.optional(Match),
  address: v.optional(linkAddress),
  name: v.optional(name),
  device: v.optional(name),
  ...SERIAL_KEYS,
  flash: v.optional(LinkFlash),
  ...DEVICE_KEYS,
};

const Link = v.strictObject({ ...LINK_KEYS, driver: v.optional(name, "lines") });

/** What every process knows of a link; the driver's own table stands beside it, under its name. */
export type LinkSettings = Readonly<v.InferOutput<typeof Link>>;
/** The USB device that a link is found by. */
export type MatchSettings = Readonly<v.InferOutput<typeof Match>>;
export type Rs485Settings = Readonly<v.InferOutput<typeof Rs485>>;
export type BridgeSettings = Readonly<v.InferOutput<typeof Bridge>>;

type Place = Pick<LinkSettings, "path" | "match" | "address">;

/** Where a link is, as the settings say it, in one short text. */
export function whereOf({ path, match, address }: Place): string {
  if (match) {
    const { vid, pid, serial } = match;
    const on = match.interface === undefined ? "" : ` interface ${match.interface}`;
    return `usb ${vid}:${pid}${serial === undefined ? "" : ` serial ${serial}`}${on}`;
  }
  return path ?? address ?? "";
}

/** A link with the tables of these drivers; without any, the link alone. */
export function linkSchema(drivers?: DriverTables): typeof Link {
  if (!drivers) return Link;
  const tables = Object.entries(drivers).map(([driver, table]) => [driver, v.optional(table)]);
  const driver = v.optional(oneOf(...Object.keys(drivers)), "lines");
  const entries = { ...LINK_KEYS, driver, ...Object.fromEntries(tables) };
  return v.strictObject(entries) as unknown as typeof Link;
}

/**
 * The links as they are checked: where the drivers are known, with the table of each link's driver,
 * for its defaults; where they are not, without the tables of any.
 */
export function readyLinks(links: unknown, drivers?: DriverTables): unknown {
  if (!Array.isArray(links)) return links;
  return links.map((link) => {
    if (!isTable(link)) return link;
    if (!drivers) return Object.fromEntries(Object.entries(link).filter(isLinkKey));
    const { driver = "lines" } = link;
    const isKnown = typeof driver === "string" && Object.hasOwn(drivers, driver);
    return isKnown && link[driver] === undefined ? { ...link, [driver]: {} } : link;
  });
}

function isLinkKey([key, value]: readonly [string, unknown]): boolean {
  return Object.hasOwn(Link.entries, key) || !isTable(value);
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
