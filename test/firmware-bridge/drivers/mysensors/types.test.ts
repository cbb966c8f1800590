// types.test: the tables of the MySensors protocol 2.3.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { channelOf } from "../../../../firmware-bridge/driver.ts";
import {
  COMMAND,
  INTERNAL,
  VALUE_TYPES,
  valueName,
  valueNumber,
  valuesOfSensor,
} from "../../../../firmware-bridge/drivers/mysensors/types.ts";

/** V_TEMP to V_POWER_FACTOR, 0 to 56. */
const V_NAMES = `
  temp hum status percentage pressure forecast rain rainrate wind gust direction uv weight distance
  impedance armed tripped watt kwh scene_on scene_off hvac_flow_state hvac_speed light_level
  var1 var2 var3 var4 var5 up down stop ir_send ir_receive flow volume lock_status level voltage
  current rgb rgbw id unit_prefix hvac_setpoint_cool hvac_setpoint_heat hvac_flow_mode text custom
  position ir_record ph orp ec var va power_factor`;

test("has the V_ types at the protocol's numbers", () => {
  const names = V_NAMES.trim().split(/\s+/);
  assert.deepEqual(
    VALUE_TYPES.map(({ name }) => name),
    names,
  );
  for (const [type, name] of names.entries()) assert.equal(valueNumber(name), type);
});

test("has the I_ types and commands at the protocol's numbers", () => {
  assert.deepEqual(Object.values(COMMAND), [0, 1, 2, 3, 4]);
  assert.deepEqual(INTERNAL, {
    ...{ batteryLevel: 0, time: 1, version: 2, idRequest: 3, idResponse: 4, inclusionMode: 5 },
    ...{ config: 6, logMessage: 9, sketchName: 11, sketchVersion: 12, reboot: 13 },
    ...{ gatewayReady: 14, presentation: 19, discoverRequest: 20, heartbeatResponse: 22 },
    ...{ locked: 23, registrationRequest: 26, registrationResponse: 27, debug: 28 },
    ...{ preSleepNotification: 32, postSleepNotification: 33 },
  });
});

test("knows of each V_ type the sensors that the protocol names with it", () => {
  const sensorsOf = (name: string) =>
    Array.from({ length: 40 }, (_, sensor) => sensor).filter((sensor) =>
      valuesOfSensor(sensor, true).some((type) => type.name === name),
    );
  const expected = {
    ...{ temp: [6, 14, 29, 39], status: [3, 4, 14, 29, 31, 39], percentage: [4, 5] },
    ...{ armed: [0, 1, 2, 31, 32, 33, 34, 35], tripped: [0, 1, 2, 31, 32, 33, 34, 35] },
    ...{ watt: [3, 4, 13, 26, 27], kwh: [13], impedance: [12, 30], hvac_flow_state: [14, 29] },
    ...{ hvac_speed: [14, 29], hvac_setpoint_heat: [14, 29], hvac_setpoint_cool: [29] },
    ...{ hvac_flow_mode: [29], level: [16, 22, 24, 33, 34, 35], light_level: [16], flow: [21, 37] },
    ...{ lock_status: [19], rgb: [26, 28], rgbw: [27], text: [36], position: [38], ph: [39] },
    ...{ scene_on: [25], ir_send: [20], custom: [23], up: [5], rain: [10], uv: [11], hum: [7] },
  };
  for (const [name, sensors] of Object.entries(expected)) {
    assert.deepEqual(sensorsOf(name), sensors, name);
  }
});

test("names every type in one topic level, there and back", () => {
  for (let type = 0; type <= 255; type += 1) {
    const name = valueName(type);
    assert.equal(channelOf(name), name);
    assert.equal(valueNumber(name), type);
  }
  for (const name of ["256", "1000", "-1", "", "TEMP", "constructor"]) {
    assert.equal(valueNumber(name), undefined, name);
  }
});

test("knows which values a sensor has, and what they are measured in", () => {
  const shown = (sensor: number, isMetric = true) =>
    valuesOfSensor(sensor, isMetric).map(({ name, unit = "" }) => `${name} ${unit}`.trim());
  assert.deepEqual(shown(6), ["temp °C"]);
  assert.deepEqual(shown(6, false), ["temp °F"]);
  assert.deepEqual(shown(16), ["light_level %", "level lx"]);
  assert.deepEqual(shown(24), ["level"]);
  assert.deepEqual(shown(17), []);
  assert.deepEqual(shown(39), ["temp °C", "ph", "orp mV", "ec µS/cm", "status"]);
  assert.deepEqual(shown(200), []);
});

test("names in its sensors no value that there is not", () => {
  const counts = [
    ...[2, 2, 2, 2, 3, 4, 1, 1, 2, 3, 2, 1, 2, 5, 5, 1, 2, 0, 0, 1],
    ...[3, 2, 1, 1, 1, 2, 2, 2, 1, 7, 3, 3, 2, 3, 3, 3, 1, 2, 1, 5],
  ];
  assert.deepEqual(
    counts.map((_, sensor) => valuesOfSensor(sensor, true).length),
    counts,
  );
});
