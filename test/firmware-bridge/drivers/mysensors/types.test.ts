// types.test: the tables of the MySensors protocol 2.3.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { channelOf } from "../../../../firmware-bridge/driver.ts";
import {
  VALUE_TYPES,
  valueName,
  valueNumber,
  valuesOfSensor,
} from "../../../../firmware-bridge/drivers/mysensors/types.ts";

test("has the V_ types at the protocol's numbers", () => {
  const numbers = {
    ...{ temp: 0, hum: 1, status: 2, percentage: 3, pressure: 4, direction: 10, tripped: 16 },
    ...{ watt: 17, kwh: 18, hvac_flow_state: 21, light_level: 23, var1: 24, up: 29, ir_send: 32 },
    ...{ lock_status: 36, level: 37, rgb: 40, id: 42, hvac_setpoint_heat: 45, text: 47 },
    ...{ position: 49, ir_record: 50, ph: 51, ec: 53, power_factor: 56 },
  };
  for (const [name, type] of Object.entries(numbers)) assert.equal(valueNumber(name), type, name);
  assert.equal(VALUE_TYPES.length, 57);
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
    ...[2, 2, 2, 2, 3, 4, 1, 1, 2, 3, 2, 1, 2, 5, 3, 1, 2, 0, 0, 1],
    ...[3, 2, 1, 1, 1, 2, 2, 2, 1, 6, 3, 2, 2, 3, 3, 3, 1, 2, 1, 5],
  ];
  assert.deepEqual(
    counts.map((_, sensor) => valuesOfSensor(sensor, true).length),
    counts,
  );
});
