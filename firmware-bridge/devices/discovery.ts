// discovery: what Home Assistant is told of a device, in its device-based form of MQTT discovery.
// Path: document → [discovery] → device. Touches: nothing.

import { createHash } from "node:crypto";
import { VERSION } from "#runtime/version";
import type { DeviceDocument, DocumentChannel } from "./document.ts";

/** Units as Home Assistant spells them, where they mean one thing. */
const DEVICE_CLASSES: Readonly<Record<string, string>> = {
  "°C": "temperature",
  "°F": "temperature",
  K: "temperature",
  W: "power",
  kW: "power",
  Wh: "energy",
  kWh: "energy",
  MWh: "energy",
  V: "voltage",
  mV: "voltage",
  A: "current",
  mA: "current",
  Hz: "frequency",
  Pa: "pressure",
  hPa: "pressure",
  kPa: "pressure",
  bar: "pressure",
  mbar: "pressure",
  lx: "illuminance",
  var: "reactive_power",
  VA: "apparent_power",
};
/** What only grows: a reading that is lower is a meter that began anew. */
const COUNTED = new Set(["energy"]);

/** A device may say any of these for yes. */
const BOOLEAN_TEMPLATE =
  "{{ 'ON' if value | lower in ['1', 'true', 'on', 'yes', 'open'] else 'OFF' }}";
/** Wider than what anybody sets; what is out of its range the device refuses. */
const NUMBER_LIMITS = { min: -1_000_000_000, max: 1_000_000_000, step: 0.001, mode: "box" };

type Component = Readonly<Record<string, string | number>>;

/** Where a device's configuration stands; an empty message there removes the device. */
export function discoveryTopic(prefix: string, bridge: string, device: string): string {
  return `${prefix}/device/${deviceId(bridge, device)}/config`;
}

/** The payload; undefined for a device without channels, of which there is nothing to tell. */
export function discoveryOf(document: DeviceDocument): string | undefined {
  const { name, bridge, model, firmware, channels } = document;
  if (channels.length === 0) return undefined;
  const id = deviceId(bridge, name);
  const components = channels.map((channel) => [
    safeId(channel.name),
    componentOf(channel, `serial/${name}/`, id),
  ]);
  return JSON.stringify({
    dev: {
      ids: [id],
      name,
      ...(model !== undefined && { mdl: model }),
      ...(firmware !== undefined && { sw: firmware }),
    },
    o: { name: "sluice", sw: VERSION },
    cmps: Object.fromEntries(components),
    avty_t: `serial/${name}/availability`,
    pl_avail: "online",
    pl_not_avail: "offline",
    qos: 1,
  });
}

function componentOf(channel: DocumentChannel, base: string, id: string): Component {
  const { name, kind, writable } = channel;
  const common = {
    unique_id: `${id}_${safeId(name)}`,
    name,
    state_topic: base + name,
    ...(writable && { command_topic: `${base}set/${name}` }),
  };
  if (kind === "boolean") return { ...booleanOf(writable), ...common };
  if (kind === "number" && writable)
    return { p: "number", ...common, ...NUMBER_LIMITS, ...unitOf(channel) };
  if (kind === "number" || (kind === undefined && !writable && channel.unit !== undefined)) {
    return { p: "sensor", ...common, ...unitOf(channel), ...stateClassOf(channel) };
  }
  return { p: writable ? "text" : "sensor", ...common };
}

function booleanOf(writable: true | undefined): Component {
  if (!writable) return { p: "binary_sensor", value_template: BOOLEAN_TEMPLATE };
  const states = { state_on: "ON", state_off: "OFF" };
  return {
    p: "switch",
    value_template: BOOLEAN_TEMPLATE,
    payload_on: "1",
    payload_off: "0",
    ...states,
  };
}

function unitOf({ unit }: DocumentChannel): Component {
  if (unit === undefined) return {};
  const deviceClass = classOf(unit);
  return {
    unit_of_measurement: unit,
    ...(deviceClass !== undefined && { device_class: deviceClass }),
  };
}

function stateClassOf({ unit }: DocumentChannel): Component {
  const isCounted = COUNTED.has(classOf(unit ?? "") ?? "");
  return { state_class: isCounted ? "total_increasing" : "measurement" };
}

function classOf(unit: string): string | undefined {
  return Object.hasOwn(DEVICE_CLASSES, unit) ? DEVICE_CLASSES[unit] : undefined;
}

function deviceId(bridge: string, device: string): string {
  return `sluice_${safeId(bridge)}_${safeId(device)}`;
}

/** Of letters, digits, _ and -, as Home Assistant wants ids; two names never give the same. */
function safeId(name: string): string {
  const safe = name.replace(/[^A-Za-z0-9_-]/g, "_");
  if (safe === name) return safe;
  return `${safe}_${createHash("sha256").update(name).digest("hex").slice(0, 8)}`;
}
