// types: the numbers of the MySensors serial protocol 2.x, which has those of 1.4 and 1.5 in it.
// Path: codec, node, network → [types]. Touches: nothing.

/** What a message is (serial API 2.x, "command"). */
export const COMMAND = { presentation: 0, set: 1, request: 2, internal: 3, stream: 4 } as const;

/** What an internal message is about; those that concern only the radio's nodes are not here. */
export const INTERNAL = {
  batteryLevel: 0,
  time: 1,
  version: 2,
  idRequest: 3,
  idResponse: 4,
  inclusionMode: 5,
  config: 6,
  logMessage: 9,
  sketchName: 11,
  sketchVersion: 12,
  reboot: 13,
  gatewayReady: 14,
  presentation: 19,
  discoverRequest: 20,
  heartbeatResponse: 22,
  locked: 23,
  registrationRequest: 26,
  registrationResponse: 27,
  debug: 28,
  preSleepNotification: 32,
  postSleepNotification: 33,
} as const;

export interface ValueType {
  /** The V_ name without its V_, in lower case: what the channel is called. */
  readonly name: string;
  readonly kind: "number" | "boolean" | "text";
  /** Only where the protocol says it. */
  readonly unit?: string;
  /** A controller may set it. */
  readonly writable?: boolean;
}

const number = (name: string, unit?: string): ValueType =>
  unit === undefined ? { name, kind: "number" } : { name, kind: "number", unit };
const boolean = (name: string): ValueType => ({ name, kind: "boolean" });
const text = (name: string): ValueType => ({ name, kind: "text" });
const set = (type: ValueType): ValueType => ({ ...type, writable: true });

/** V_ types, by their number. */
export const VALUE_TYPES: readonly ValueType[] = [
  number("temp", "°C"),
  number("hum", "%"),
  set(boolean("status")),
  set(number("percentage", "%")),
  number("pressure"),
  text("forecast"),
  number("rain"),
  number("rainrate"),
  number("wind"),
  number("gust"),
  number("direction", "°"),
  number("uv"),
  number("weight"),
  number("distance"),
  number("impedance"),
  set(boolean("armed")),
  boolean("tripped"),
  number("watt", "W"),
  number("kwh", "kWh"),
  text("scene_on"),
  text("scene_off"),
  set(text("hvac_flow_state")),
  set(text("hvac_speed")),
  number("light_level", "%"),
  set(text("var1")),
  set(text("var2")),
  set(text("var3")),
  set(text("var4")),
  set(text("var5")),
  set(text("up")),
  set(text("down")),
  set(text("stop")),
  set(text("ir_send")),
  text("ir_receive"),
  number("flow"),
  number("volume"),
  set(boolean("lock_status")),
  number("level"),
  number("voltage", "V"),
  number("current", "A"),
  set(text("rgb")),
  set(text("rgbw")),
  text("id"),
  text("unit_prefix"),
  set(number("hvac_setpoint_cool")),
  set(number("hvac_setpoint_heat")),
  set(text("hvac_flow_mode")),
  set(text("text")),
  set(text("custom")),
  text("position"),
  set(text("ir_record")),
  number("ph"),
  number("orp", "mV"),
  number("ec", "µS/cm"),
  number("var", "var"),
  number("va", "VA"),
  number("power_factor"),
];

/** Values of a sensor of this S_ type, by the names of their channels. */
const VALUES_BY_SENSOR: readonly string[] = [
  "tripped armed", // S_DOOR
  "tripped armed", // S_MOTION
  "tripped armed", // S_SMOKE
  "status watt", // S_BINARY
  "status percentage watt", // S_DIMMER
  "up down stop percentage", // S_COVER
  "temp", // S_TEMP
  "hum", // S_HUM
  "pressure forecast", // S_BARO
  "wind gust direction", // S_WIND
  "rain rainrate", // S_RAIN
  "uv", // S_UV
  "weight impedance", // S_WEIGHT
  "watt kwh var va power_factor", // S_POWER
  "hvac_setpoint_heat hvac_flow_state hvac_speed temp status", // S_HEATER
  "distance", // S_DISTANCE
  "light_level level", // S_LIGHT_LEVEL
  "", // S_ARDUINO_NODE
  "", // S_ARDUINO_REPEATER_NODE
  "lock_status", // S_LOCK
  "ir_send ir_receive ir_record", // S_IR
  "flow volume", // S_WATER
  "level", // S_AIR_QUALITY
  "custom", // S_CUSTOM
  "level", // S_DUST
  "scene_on scene_off", // S_SCENE_CONTROLLER
  "rgb watt", // S_RGB_LIGHT
  "rgbw watt", // S_RGBW_LIGHT
  "rgb", // S_COLOR_SENSOR
  "hvac_setpoint_heat hvac_setpoint_cool hvac_flow_state hvac_flow_mode hvac_speed temp status", // S_HVAC
  "voltage current impedance", // S_MULTIMETER
  "status tripped armed", // S_SPRINKLER
  "tripped armed", // S_WATER_LEAK
  "tripped armed level", // S_SOUND
  "tripped armed level", // S_VIBRATION
  "tripped armed level", // S_MOISTURE
  "text", // S_INFO
  "flow volume", // S_GAS
  "position", // S_GPS
  "temp ph orp ec status", // S_WATER_QUALITY
];

/** What V_LEVEL is measured in, which the sensor decides: S_LIGHT_LEVEL, S_SOUND, S_VIBRATION. */
const LEVEL_UNITS = new Map([
  [16, "lx"],
  [33, "dB"],
  [34, "Hz"],
]);

const NUMBERS = new Map(VALUE_TYPES.map(({ name }, type) => [name, type]));
const TYPE_MAX = 255;

/** What the channel of a V_ type is called; a number that this protocol does not have, itself. */
export function valueName(type: number): string {
  return VALUE_TYPES[type]?.name ?? String(type);
}

/** The number of a V_ type, by name or written as a number. */
export function valueNumber(name: string): number | undefined {
  if (/^\d{1,3}$/.test(name) && Number(name) <= TYPE_MAX) return Number(name);
  return NUMBERS.get(name);
}

/** The values that a sensor of an S_ type may have; none of a type that is not known. */
export function valuesOfSensor(sensor: number, isMetric: boolean): ValueType[] {
  const names = (VALUES_BY_SENSOR[sensor] ?? "").split(" ");
  return names.flatMap((name) => {
    const type = VALUE_TYPES[NUMBERS.get(name) ?? -1];
    if (!type) return [];
    if (name === "temp" && !isMetric) return [{ ...type, unit: "°F" }];
    const unit = name === "level" ? LEVEL_UNITS.get(sensor) : undefined;
    return unit === undefined ? [type] : [{ ...type, unit }];
  });
}
