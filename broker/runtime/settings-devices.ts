// settings-devices: the keys of [[links]] that say who its devices are and how they are told of.
// Path: settings-links → [settings-devices]. Touches: nothing.

import * as v from "valibot";
import { eachOnce, flag, name, oneOf, path, text, whole } from "./settings-values.ts";

const SECONDS_MAX = 31_536_000;

/** MQTT 5.0 lets a broker refuse more than these (§3.1.3.1); ours does not, others may. */
const clientId = v.pipe(
  v.string("allowed: 1 to 128 characters"),
  v.check(
    (it) => /^[^\p{Control}/+#]{1,128}$/u.test(it),
    "allowed: 1 to 128 characters, without / + # and control characters",
  ),
);

const IDENTITY_KEYS = {
  client_id: v.optional(clientId),
  username: v.optional(text),
  password_file: v.optional(path),
  model: v.optional(text),
  firmware: v.optional(text),
};

const silentSeconds = whole(0, SECONDS_MAX);

const Device = v.strictObject({
  name,
  ...IDENTITY_KEYS,
  silent_seconds_max: v.optional(silentSeconds),
});

const Channel = v.strictObject({
  name: text,
  device: v.optional(name),
  unit: v.optional(text),
  kind: v.optional(oneOf("number", "boolean", "text")),
  retain: v.optional(flag()),
  throttle_ms: v.optional(whole(0, 86_400_000)),
  dead_band: v.optional(
    v.pipe(v.number("allowed: a number"), v.minValue(0, "allowed: a number from 0")),
  ),
  heartbeat_seconds: v.optional(whole(0, SECONDS_MAX)),
});

const Devices = v.pipe(
  v.array(Device, "allowed: an array of tables"),
  eachOnce((it) => it.name, "allowed: each name once"),
);

const Channels = v.pipe(
  v.array(Channel, "allowed: an array of tables"),
  eachOnce(
    ({ name, device }) => (device === undefined ? name : `${name} of ${device}`),
    "allowed: each name once for a device",
  ),
);

/** Of a link; those of its identity concern the device of a link that is one device. */
export const DEVICE_KEYS = {
  ...IDENTITY_KEYS,
  silent_seconds_max: v.optional(silentSeconds, 0),
  debug_frames_per_second_max: v.optional(whole(0, 1_000), 1),
  devices: v.optional(Devices, []),
  channels: v.optional(Channels, []),
};

export type DeviceSettings = Readonly<v.InferOutput<typeof Device>>;
export type ChannelSettings = Readonly<v.InferOutput<typeof Channel>>;
