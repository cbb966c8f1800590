// settings.test: a table that cannot work is refused with the line, the key and what is allowed.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { parseSettings } from "#runtime/settings";
import { driverTables } from "../../../../firmware-bridge/drivers/drivers.ts";

const HEAD = `role = "gateway"
[[links]]
path = "/dev/x"
driver = "modbus-rtu"
`;

/** The faults of a file, without the lines before the table. */
function faultsOf(table: string): string {
  try {
    parseSettings(HEAD + table, "test", driverTables);
    return "";
  } catch (fault) {
    return (fault as Error).message;
  }
}

function register(keys: string, more = ""): string {
  return faultsOf(`[links.modbus-rtu]
${more}
[[links.modbus-rtu.slaves]]
device = "meter"
[[links.modbus-rtu.slaves.registers]]
channel = "voltage"
address = 0
${keys}`);
}

test("says what is missing", () => {
  assert.match(faultsOf(""), /links\[0\].modbus-rtu.slaves is missing; allowed: tables, \[\[/);
  const noRegisters = '[[links.modbus-rtu.slaves]]\ndevice = "meter"';
  assert.match(faultsOf(noRegisters), /registers is missing; allowed: tables/);
});

test("takes the shortest table that works", () => {
  assert.equal(register(""), "");
});

test("refuses what cannot be, at its line", () => {
  const cases: [string, RegExp][] = [
    ['type = "float33"', /12: .*type is "float33"; allowed: "uint16"/],
    ['type = "string"', /length is missing; allowed: its bytes, 1 to 246/],
    ['group = "fast"', /12: .*group is "fast"; allowed: the name of one of/],
    ['function = "input"\nwritable = true', /writable is true; allowed: true with function/],
    ['type = "bit"\nbit = 1\nwritable = true', /writable is true; .*fifteen/],
    ["bit = 3", /12: .*bit is 3; allowed: with type = "bit" only/],
    ["poll = false", /poll is false; allowed: false with writable = true alone/],
    ['type = "bool"\nmin = 1', /min is 1; allowed: for numbers alone/],
    ["min = 2\nmax = 1", /max is 1; allowed: not less than min/],
    ["scale = 0", /scale is 0; allowed: a number that is not 0/],
    ["adress = 5", /adress is not a known key/],
  ];
  for (const [keys, expected] of cases) assert.match(register(keys), expected, keys);
});

test("refuses channels that are topics of the device itself", () => {
  for (const channel of ["error", "set", "result", "availability", "debug"]) {
    const table = `[[links.modbus-rtu.slaves]]
device = "meter"
registers = [{ channel = "${channel}", address = 0 }]`;
    assert.match(faultsOf(table), /allowed: another name/, channel);
  }
});

test("refuses what reaches beyond the last register", () => {
  const table = (address: number) => `[[links.modbus-rtu.slaves]]
device = "meter"
registers = [{ channel = "a", address = ${address}, type = "float32" }]`;
  assert.equal(faultsOf(table(65_534)), "");
  assert.match(faultsOf(table(65_535)), /address is 65535; allowed: all of the value below 65536/);
});

test("refuses two of one name or address, and addresses that nobody has", () => {
  const slave = (device: string, address: number, rest = "") => `
[[links.modbus-rtu.slaves]]
device = "${device}"
address = ${address}
registers = [{ channel = "a", address = 0 ${rest} }]`;
  assert.match(faultsOf(slave("m", 1) + slave("m", 2)), /slaves\[1\].device is "m"; allowed: each/);
  assert.match(faultsOf(slave("m", 1) + slave("n", 1)), /slaves\[1\].address is 1; allowed: each/);
  assert.match(faultsOf(slave("m", 248)), /address is 248; allowed: 1 to 247/);
  assert.match(faultsOf(slave("m", 0)), /address is 0; allowed: 1 to 247; with 0/);
  const listens = ", poll = false, writable = true, read_back = false";
  assert.equal(faultsOf(slave("m", 0, listens)), "");
  const tcp = '[links.modbus-rtu]\nframing = "tcp"';
  assert.equal(faultsOf(tcp + slave("m", 255)), "");
});

test("refuses a group that is named twice", () => {
  const group = 'groups = [{ name = "fast", every_ms = 1000 }]';
  assert.equal(register('group = "fast"', group), "");
  const twice = 'groups = [{ name = "a", every_ms = 10 }, { name = "a", every_ms = 20 }]';
  assert.match(register("", twice), /groups\[1\].name is "a"; allowed: each name once/);
});

test("the page's own settings can be used as they are", () => {
  const page = new URL(
    "../../../../firmware-bridge/drivers/modbus-rtu/modbus-rtu.md",
    import.meta.url,
  );
  const blocks = readFileSync(page, "utf8").matchAll(/```toml\n([^`]*)```/g);
  const [meter = "", network = "", rs485 = ""] = [...blocks].map(([, text]) => text);
  const slaves = meter.slice(meter.indexOf("[[links.modbus-rtu.slaves]]"));
  const groups = 'groups = [{ name = "fast", every_ms = 1000 }]\n';
  for (const text of [meter, `${network}${groups}${slaves}`, meter + rs485]) {
    const { links } = parseSettings(`role = "gateway"\n${text}`, "page", driverTables);
    assert.equal(links.length, 1);
  }
});
