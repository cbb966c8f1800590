// settings-schema: every key of sluice.toml with its default and what it allows.
// Path: settings. Touches: nothing.

import * as v from "valibot";
import { TOPIC_LIMITS } from "#contract/topics";
import { conflicts } from "./settings-conflicts.ts";
import { Flash } from "./settings-flash.ts";
import { Bridge, type DriverTables, linkSchema } from "./settings-links.ts";
import {
  filter,
  flag,
  hostPort,
  listenAddress,
  name,
  oneOf,
  path,
  text,
  urlOf,
  whole,
} from "./settings-values.ts";

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

/** The whole file, with the tables of these drivers. Tables of the other role are refused last. */
export function settingsSchema(drivers?: DriverTables) {
  return v.pipe(
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
      flash: v.optional(Flash),
      links: v.optional(v.array(linkSchema(drivers)), []),
    }),
    v.rawCheck(({ dataset, addIssue }) => {
      for (const fault of conflicts(dataset.value, Object.keys(drivers ?? {}))) addIssue(fault);
    }),
  );
}

/** As every process but the firmware-bridge knows it. */
export const SettingsSchema = settingsSchema();

export type Settings = Readonly<v.InferOutput<typeof SettingsSchema>>;
export type ListenerSettings = Settings["listeners"][number];
export type RedisSettings = NonNullable<Settings["cluster"]>;
export type UplinkSettings = NonNullable<Settings["uplink"]>;
