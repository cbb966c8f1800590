// settings.test: what the settings of MQTT-SN links refuse, and in which words.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { parseSettings } from "#runtime/settings";
import { driverTables } from "../../../../firmware-bridge/drivers/drivers.ts";

function parse(table: string) {
  const text = `role = "gateway"\n[[links]]\npath = "/dev/x"\ndriver = "mqtt-sn"\n${table}`;
  return parseSettings(text, "sluice.toml", driverTables);
}

test("needs nothing but the driver's name", () => {
  assert.equal(parse("").links[0]?.driver, "mqtt-sn");
});

test("names the line of what cannot be", () => {
  for (const [table, expected] of [
    ["[links.mqtt-sn]\ngateway = 1", /sluice\.toml:6.*gateway_id/],
    ["[links.mqtt-sn]\nretry_seconds = 0", /sluice\.toml:6.*1 to 60/],
    ['[links.mqtt-sn]\naccept = "some"', /"any", "listed"/],
    ['[[links.mqtt-sn.predefined]]\nid = 1\ntopic = "a/#"', /without wildcards/],
    ['[[links.mqtt-sn.predefined]]\nid = 65535\ntopic = "a"', /1 to 65534/],
    ['[links.mqtt-sn]\npredefined = [{ id = 1, topic = "a" }, { id = 1, topic = "b" }]', /each id/],
    ['[links.mqtt-sn]\nclients = [{ client_id = "a" }, { client_id = "a" }]', /each client_id/],
    ['[links.mqtt-sn]\nclients = [{ client_id = "a", password_file = "/x" }]', /beside username/],
  ] as const) {
    assert.throws(() => parse(table), { code: "SETTINGS_INVALID", message: expected }, table);
  }
});
