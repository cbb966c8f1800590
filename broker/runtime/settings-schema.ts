// settings-schema: every key of sluice.toml with its default and what it allows.
// Path: settings. Touches: nothing.

import * as v from "valibot";
import { reasonOf } from "#contract/errors";
import { assertTopicFilter, NAME_PATTERN, TOPIC_LIMITS } from "#contract/topics";

const whole = (least: number, most: number) =>
  v.pipe(
    v.number("allowed: a whole number"),
    v.check(
      (value) => Number.isInteger(value) && value >= least && value <= most,
      `allowed: a whole number from ${least} to ${most}`,
    ),
  );

const oneOf = <const T extends readonly string[]>(...words: T) =>
  v.picklist(words, `allowed: ${words.map((word) => JSON.stringify(word)).join(", ")}`);

const flag = () => v.boolean("allowed: true or false");

const path = v.pipe(v.string("allowed: a path"), v.minLength(1, "allowed: a path"));

const name = v.pipe(
  v.string("allowed: a name"),
  v.regex(NAME_PATTERN, "allowed: 1 to 63 of A-Z a-z 0-9 . _ - that begin with a letter or digit"),
);

const HOST_PORT = /^(?:\[[0-9a-fA-F:.]+\]|[^\s:[\]]+):(?:[0-9]{1,5})$/;

function isHostPort(text: string): boolean {
  return HOST_PORT.test(text) && Number(text.slice(text.lastIndexOf(":") + 1)) <= 65_535;
}

const hostPort = v.pipe(
  v.string("allowed: host:port"),
  v.check(isHostPort, 'allowed: host:port, as "127.0.0.1:1883"'),
);

const listenAddress = v.pipe(
  v.string("allowed: host:port or unix:/path"),
  v.check(
    (text) => isHostPort(text) || /^unix:\/.+/.test(text),
    'allowed: host:port, as "127.0.0.1:1883", or "unix:/path"',
  ),
);

const filter = v.pipe(
  v.string("allowed: an MQTT topic filter"),
  v.rawCheck(({ dataset, addIssue }) => {
    if (!dataset.typed) return;
    try {
      assertTopicFilter(dataset.value);
    } catch (fault) {
      addIssue({ message: `allowed: an MQTT topic filter; ${reasonOf(fault)}` });
    }
  }),
);

function urlOf(...protocols: string[]) {
  const allowed = `allowed: a URL that begins with ${protocols.map((p) => `${p}//`).join(" or ")}`;
  return v.pipe(
    v.string(allowed),
    v.check((text) => URL.canParse(text) && protocols.includes(new URL(text).protocol), allowed),
    withoutPassword(),
  );
}

function withoutPassword() {
  return v.check<string, string>(
    // Looked at as text: a password with / ? or # in it makes a URL whose host is the user's name.
    (text) => !/\/\/.*:.*@/.test(text),
    "allowed: a URL without a password; name a file in password_file",
  );
}

const ORIGIN_ALLOWED =
  'allowed: "*" or an origin as browsers send it, as "https://app.example.com"';

/** Scheme, host and port alone, in the one spelling that a browser uses (RFC 6454 §6.2). */
function isOrigin(text: string): boolean {
  return URL.canParse(text) && /^https?:/.test(text) && new URL(text).origin === text;
}

function overTls(protocol: string): boolean {
  return protocol === "mqtts" || protocol === "wss";
}

const origin = v.pipe(
  v.string(ORIGIN_ALLOWED),
  v.check((text) => text === "*" || isOrigin(text), ORIGIN_ALLOWED),
);

const Listener = v.pipe(
  v.strictObject({
    protocol: oneOf("mqtt", "mqtts", "ws", "wss"),
    address: listenAddress,
    cert_file: v.optional(path),
    key_file: v.optional(path),
    ca_file: v.optional(path),
    proxy: v.optional(flag(), false),
    proxy_from: v.optional(v.array(v.pipe(v.string(), v.ip("allowed: IP addresses"))), [
      "127.0.0.1",
      "::1",
    ]),
    origins: v.optional(v.array(origin, "allowed: an array of origins"), []),
  }),
  v.forward(
    v.partialCheck(
      [["protocol"], ["cert_file"]],
      (it) => !overTls(it.protocol) || it.cert_file !== undefined,
      "allowed: with mqtts and wss, the path of a PEM certificate",
    ),
    ["cert_file"],
  ),
  v.forward(
    v.partialCheck(
      [["protocol"], ["key_file"]],
      (it) => !overTls(it.protocol) || it.key_file !== undefined,
      "allowed: with mqtts and wss, the path of a PEM key",
    ),
    ["key_file"],
  ),
);

const text = v.pipe(v.string("allowed: a text"), v.minLength(1, "allowed: a text"));

const rightFilters = v.array(
  v.pipe(
    filter,
    v.check(
      (text) => !text.startsWith("$share/"),
      "allowed: the filter that stands behind $share/<group>/",
    ),
  ),
  "allowed: an array of topic filters",
);

const Right = v.strictObject({
  user: v.optional(text),
  client_id: v.optional(text),
  certificate: v.optional(text),
  publish: v.optional(rightFilters, []),
  retain: v.optional(rightFilters),
  subscribe: v.optional(rightFilters, []),
});

const SERVER_REFERENCE_ALLOWED =
  'allowed: 1 to 1024 characters that name servers, as "broker2.example.com:8883"';

/** Meant for programs, so without what could hide in it (MQTT 5.0 §4.11). */
const serverReference = v.pipe(
  v.string(SERVER_REFERENCE_ALLOWED),
  v.regex(/^[!-~]+( [!-~]+)*$/, SERVER_REFERENCE_ALLOWED),
  v.maxLength(1_024, SERVER_REFERENCE_ALLOWED),
);

const Access = v.strictObject({
  anonymous: v.optional(oneOf("never", "loopback", "all"), "loopback"),
  users_file: v.optional(path, "/etc/sluice/users"),
  server_reference: v.optional(serverReference),
  rights: v.optional(v.array(Right), []),
});

/** An expiry interval of so many seconds never ends (MQTT 5.0 §3.1.2.11.2). */
const NEVER_SECONDS = 0xffffffff;

const Limits = v.strictObject({
  connections_max: v.optional(whole(1, 1_000_000), 10_000),
  connections_per_address_max: v.optional(whole(1, 1_000_000), 8_192),
  connections_unauthenticated_max: v.optional(whole(1, 1_000_000), 1_000),
  connect_seconds_max: v.optional(whole(1, 3_600), 10),
  authenticate_seconds_max: v.optional(whole(1, 3_600), 10),
  keepalive_seconds_max: v.optional(whole(1, 65_535), 65_535),
  packet_bytes_max: v.optional(whole(128, 268_435_455), 262_144),
  packet_before_connect_bytes_max: v.optional(whole(128, 268_435_455), 65_536),
  unfinished_bytes_max: v.optional(whole(65_536, 1_073_741_824), 33_554_432),
  topic_bytes_max: v.optional(whole(1, TOPIC_LIMITS.bytesMax), TOPIC_LIMITS.bytesMax),
  topic_levels_max: v.optional(whole(1, TOPIC_LIMITS.levelsMax), TOPIC_LIMITS.levelsMax),
  topic_aliases_max: v.optional(whole(0, 65_535), 32),
  publishes_per_second_max: v.optional(whole(1, 10_000_000), 100_000),
  receive_messages_max: v.optional(whole(1, 65_535), 1_000),
  inflight_messages_max: v.optional(whole(1, 65_535), 1_000),
  delivery_messages_max: v.optional(whole(1, 1_000_000), 10_000),
  delivery_bytes_max: v.optional(whole(1_024, 1_073_741_824), 4_194_304),
  sessions_max: v.optional(whole(1, 1_000_000), 10_000),
  session_seconds_max: v.optional(whole(1, NEVER_SECONDS), 604_800),
  queue_messages_max: v.optional(whole(1, 100_000_000), 100_000),
  queue_bytes_max: v.optional(whole(1_024, 2 ** 40), 67_108_864),
  queue_seconds_max: v.optional(whole(1, NEVER_SECONDS), 604_800),
  subscriptions_per_client_max: v.optional(whole(1, 1_000_000), 1_000),
  subscriptions_bytes_max: v.optional(whole(1_024, 1_073_741_824), 33_554_432),
  retained_messages_max: v.optional(whole(1, 100_000_000), 100_000),
  retained_bytes_max: v.optional(whole(1_024, 2 ** 40), 33_554_432),
});

const redis = {
  url: urlOf("redis:", "rediss:"),
  password_file: v.optional(path),
  ca_file: v.optional(path),
  cert_file: v.optional(path),
  key_file: v.optional(path),
};

const Forward = v.strictObject({
  filter,
  lane: v.optional(name, "default"),
  qos0: v.optional(flag(), true),
});

const UPLINK_URLS_MAX = 8;

const Uplink = v.strictObject({
  ...redis,
  url: v.union(
    [
      redis.url,
      v.pipe(
        v.array(redis.url),
        v.minLength(1, "allowed: at least one URL"),
        v.maxLength(UPLINK_URLS_MAX, `allowed: at most ${UPLINK_URLS_MAX} URLs`),
      ),
    ],
    "allowed: a URL that begins with redis:// or rediss://, or an array of such",
  ),
  probe_seconds: v.optional(whole(1, 3_600), 30),
  window_frames_max: v.optional(whole(1, 4), 4),
  bytes_per_second_max: v.optional(whole(1_024, 2 ** 40)),
  forward: v.optional(v.array(Forward), [{ filter: "#" }]),
});

const Lane = v.strictObject({
  name,
  bytes_max: v.optional(whole(65_536, 2 ** 50), 1_073_741_824),
  age_seconds_max: v.optional(whole(1, NEVER_SECONDS), NEVER_SECONDS),
  disk_free_bytes_min: v.optional(whole(0, 2 ** 50), 67_108_864),
  when_full: v.optional(oneOf("reject", "drop_oldest", "drop_newest"), "reject"),
});

const Outbox = v.strictObject({
  tail_seconds_max: v.optional(whole(0, 604_800), 600),
  tail_bytes_max: v.optional(whole(0, 2 ** 40), 67_108_864),
  lanes: v.optional(v.array(Lane), [{ name: "default" }]),
});

const Store = v.strictObject({ durability: v.optional(oneOf("fsync", "os"), "fsync") });

const Ingest = v.strictObject({
  lease_seconds: v.optional(whole(2, 600), 5),
  tail_seconds_max: v.optional(whole(0, 604_800), 600),
  gateway_silent_seconds_max: v.optional(whole(2, 86_400), 75),
  commands_max: v.optional(whole(1, 10_000_000), 10_000),
  gateway_bytes_max: v.optional(whole(1_048_576, 2 ** 50), 268_435_456),
});

const Lines = v.strictObject({
  format: v.optional(oneOf("text", "json", "key-value", "csv"), "text"),
  columns: v.optional(v.array(name), []),
  separator: v.optional(v.pipe(v.string(), v.length(1, "allowed: one character")), ","),
  line_end: v.optional(oneOf("lf", "crlf", "cr"), "lf"),
  line_bytes_max: v.optional(whole(1, 65_536), 4_096),
});

const Link = v.strictObject({
  path,
  driver: v.optional(oneOf("lines"), "lines"),
  device: v.optional(name),
  baud_rate: v.optional(whole(50, 4_000_000), 115_200),
  data_bits: v.optional(v.picklist([5, 6, 7, 8], "allowed: 5, 6, 7, 8"), 8),
  stop_bits: v.optional(v.picklist([1, 2], "allowed: 1, 2"), 1),
  parity: v.optional(oneOf("none", "even", "odd"), "none"),
  hardware_flow: v.optional(flag(), false),
  lines: v.optional(Lines, {}),
});

const Bridge = v.strictObject({
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
});

/** The whole file. Tables of the other role are refused by the last checks. */
export const SettingsSchema = v.pipe(
  v.strictObject({
    role: oneOf("gateway", "cloud"),
    name,
    data: v.optional(path, "/var/lib/sluice"),
    log: v.optional(
      v.strictObject({ level: v.optional(oneOf("error", "warn", "info", "debug"), "info") }),
      {},
    ),
    listeners: v.optional(v.array(Listener), [{ protocol: "mqtt", address: "127.0.0.1:1883" }]),
    access: v.optional(Access, {}),
    limits: v.optional(Limits, {}),
    status: v.optional(v.strictObject({ address: v.optional(hostPort, "127.0.0.1:9883") }), {}),
    uplink: v.optional(Uplink),
    store: v.optional(Store, {}),
    outbox: v.optional(Outbox, {}),
    landing: v.optional(v.strictObject(redis)),
    cluster: v.optional(v.strictObject(redis)),
    ingest: v.optional(Ingest, {}),
    bridge: v.optional(Bridge, {}),
    links: v.optional(v.array(Link), []),
  }),
  v.rawCheck(({ dataset, addIssue }) => {
    for (const fault of crossFaults(dataset.value)) addIssue(fault);
  }),
);

export type Settings = Readonly<v.InferOutput<typeof SettingsSchema>>;
export type ListenerSettings = Settings["listeners"][number];
export type LinkSettings = Settings["links"][number];
export type LinesSettings = LinkSettings["lines"];
export type BridgeSettings = Settings["bridge"];
export type RedisSettings = NonNullable<Settings["cluster"]>;
export type UplinkSettings = NonNullable<Settings["uplink"]>;

interface Fault {
  readonly message: string;
  readonly path: [v.ObjectPathItem, ...v.IssuePathItem[]];
}

/**
 * What no single key shows: tables of the other role, lanes that are not there, equal devices.
 * Looks at a file that may have other faults, so that all of them are told at once.
 */
function crossFaults(settings: unknown): Fault[] {
  const faults: Fault[] = [];
  const fault = (message: string, ...keys: (string | number)[]) =>
    faults.push({ message, path: issuePath(settings, keys) });
  const isThere = (key: string) => at(settings, key) !== undefined;
  if (at(settings, "role") === "cloud") {
    if (!isThere("landing"))
      fault("allowed in role cloud: a [landing] table with its url", "landing");
    if (!isThere("cluster"))
      fault("allowed in role cloud: a [cluster] table with its url", "cluster");
    if (isThere("uplink")) fault('allowed: with role = "gateway" only', "uplink");
  } else if (at(settings, "role") === "gateway") {
    if (isThere("landing")) fault('allowed: with role = "cloud" only', "landing");
    if (isThere("cluster")) fault('allowed: with role = "cloud" only', "cluster");
  }
  const lanes = column(at(at(settings, "outbox"), "lanes"), "name");
  for (const [index, lane] of column(at(at(settings, "uplink"), "forward"), "lane").entries()) {
    if (typeof lane === "string" && !lanes.includes(lane)) {
      fault(`allowed: a lane of [outbox]: ${lanes.join(", ")}`, "uplink", "forward", index, "lane");
    }
  }
  for (const index of repeats(lanes))
    fault("allowed: each name once", "outbox", "lanes", index, "name");
  const links = at(settings, "links");
  for (const index of repeats(column(links, "path")))
    fault("allowed: each path once", "links", index, "path");
  for (const index of repeats(column(links, "device")))
    fault("allowed: each device once", "links", index, "device");
  return faults;
}

function at(value: unknown, key: string): unknown {
  return typeof value === "object" && value !== null && Object.hasOwn(value, key)
    ? (value as Record<string, unknown>)[key]
    : undefined;
}

/** What each table of an array of tables has under `key`. */
function column(tables: unknown, key: string): unknown[] {
  return Array.isArray(tables) ? tables.map((table) => at(table, key)) : [];
}

/** Where text stands that stood before. */
function repeats(values: readonly unknown[]): number[] {
  return [...values.keys()].filter(
    (index) => typeof values[index] === "string" && values.indexOf(values[index]) < index,
  );
}

function issuePath(root: unknown, keys: (string | number)[]): Fault["path"] {
  let input = root as Record<string | number, unknown>;
  const items = keys.map((key) => {
    const value = input?.[key];
    const item = { type: "unknown", origin: "value", input, key, value } as v.UnknownPathItem;
    input = value as Record<string | number, unknown>;
    return item;
  });
  return items as unknown as Fault["path"];
}
