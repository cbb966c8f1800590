// settings.test: what reading the settings promises, to who wrote them most of all.
// Path: test. Touches: a temporary folder.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { inspect } from "node:util";
import { SluiceError } from "#contract/errors";
import { parseSettings, readSettings } from "#runtime/settings";
import { driverTables } from "../../../firmware-bridge/drivers/drivers.ts";
import { temporaryFolder } from "./temporary-folder.ts";

const PATH = "sluice.toml";

/** The lines of the refusal of `text`; fails when it is taken. */
function faultsOf(text: string): string[] {
  try {
    parseSettings(text, PATH);
  } catch (fault) {
    assert.ok(fault instanceof SluiceError, inspect(fault));
    assert.equal(fault.code, "SETTINGS_INVALID");
    return fault.message.split("\n");
  }
  return assert.fail(`taken: ${text}`);
}

/** The one fault of a gateway's settings with `text` in them, at its line of that text. */
function faultOf(text: string): string {
  const faults = faultsOf(`${text}\n`);
  assert.equal(faults.length, 1, faults.join("\n"));
  return faults[0] ?? "";
}

const gateway = (text: string) => `role = "gateway"\n${text}`;

test("fills a file of one line up with defaults", () => {
  const settings = parseSettings('role = "gateway"', PATH);
  assert.match(settings.name, /^gw-[0-9a-f]{8}$/);
  assert.equal(settings.data, "/var/lib/sluice");
  assert.deepEqual(settings.status, { address: "127.0.0.1:9883" });
  assert.equal(settings.listeners[0]?.address, "127.0.0.1:1883");
  const [lane] = settings.outbox.lanes;
  assert.deepEqual([lane?.name, lane?.bytes_max, lane?.when_full], ["default", 2 ** 30, "reject"]);
  assert.equal(settings.store.durability, "fsync");
  assert.equal(settings.uplink, undefined);
});

test("fills the tables of arrays up too", () => {
  const settings = parseSettings(
    gateway('[uplink]\nurl = "redis://x"\n[[links]]\npath = "/dev/x"'),
    PATH,
  );
  assert.deepEqual(settings.uplink?.forward, [{ filter: "#", lane: "default", qos0: true }]);
  assert.equal(settings.links[0]?.baud_rate, 115_200);
});

test("takes the smallest file of the design", () => {
  const text = `
role = "gateway"
name = "gw-001"
data = "/var/lib/sluice"
[[listeners]]
protocol = "mqtt"
address = "unix:/run/sluice/broker.sock"
[access]
anonymous = "loopback"
[status]
address = "[::1]:9883"
[uplink]
url = "rediss://gw-001@cloud.example.com:6380"
password_file = "/etc/sluice/uplink.password"
[[uplink.forward]]
filter = "#"
lane = "default"
[[links]]
path = "/dev/serial/by-id/usb-x"
driver = "lines"`;
  assert.equal(parseSettings(text, PATH).name, "gw-001");
});

test("freezes all of it, defaults too", () => {
  const settings = parseSettings(gateway('[[links]]\npath = "/dev/x"'), PATH);
  const frozen = (value: unknown): boolean =>
    typeof value !== "object" ||
    value === null ||
    (Object.isFrozen(value) && Object.values(value).every(frozen));
  assert.ok(frozen(settings));
  assert.throws(() => Object.assign(settings.access, { anonymous: "all" }), TypeError);
  assert.doesNotThrow(() => parseSettings(gateway('[[links]]\npath = "/dev/x"'), PATH));
});

test("reads a file with a byte order mark and Windows line ends, and counts its lines", () => {
  const text = '\uFEFFrole = "gateway"\r\n\r\n[limits]\r\nconnections_max = 5\r\n';
  assert.equal(parseSettings(text, PATH).limits.connections_max, 5);
  assert.equal(
    faultOf(text.replace("= 5", "= 0")),
    "sluice.toml:4: limits.connections_max is 0; allowed: a whole number from 1 to 1000000",
  );
  const first = '\uFEFFrolle = 1\r\nrole = "gateway"\r\n';
  assert.match(faultOf(first), /^sluice\.toml:1: rolle is not a known key/);
});

test("names the nearest known key, the file and the line", () => {
  const cases: Record<string, string> = {
    "naem = 1": 'sluice.toml:2: naem is not a known key; the nearest known key is "name"',
    '[status]\nadress = "127.0.0.1:1"':
      'sluice.toml:3: status.adress is not a known key; the nearest known key is "address"',
    '[[links]]\npath = "/dev/x"\nbaudrate = 9600':
      'sluice.toml:4: links[0].baudrate is not a known key; the nearest known key is "baud_rate"',
    '[[links]]\npath = "/dev/x"\nstop = 2':
      'sluice.toml:4: links[0].stop is not a known key; the nearest known key is "stop_bits"',
    "[acess]": 'sluice.toml:2: acess is not a known key; the nearest known key is "access"',
  };
  for (const [text, fault] of Object.entries(cases)) assert.equal(faultOf(gateway(text)), fault);
});

test("says of a key below the wrong header where it goes", () => {
  const table = "[[links]]\npath = '/dev/x'\n[links.rs485]\nbaud_rate = 9600\ndata = '/x'";
  assert.deepEqual(faultsOf(gateway(table)), [
    "sluice.toml:5: links[0].rs485.baud_rate is not a known key; it is one of [[links]], and goes above [links.rs485]",
    "sluice.toml:6: links[0].rs485.data is not a known key; it is one of the top of the file, and goes above [links.rs485]",
  ]);
});

test("says of a key above the table that it is of which table that is", () => {
  const link = (...lines: string[]) => gateway(`[[links]]\npath = "/dev/x"\n${lines.join("\n")}`);
  const fault = (text: string, where: string) => {
    const message = RegExp(`is not a known key; it is one of ${where}$`, "m");
    assert.throws(() => parseSettings(text, PATH, driverTables), { message });
  };
  fault(link('driver = "modbus-rtu"', "slaves = []"), "\\[links\\.modbus-rtu\\]");
  fault(link('format = "json"'), "\\[links\\.frames\\] or \\[links\\.lines\\]");
  fault(gateway("discovery_prefix = 'x'"), "\\[bridge\\]");
});

test("says how an array of tables is written", () => {
  const fault = faultOf(gateway('[links]\npath = "/dev/x"'));
  assert.equal(fault, "sluice.toml:2: links is a table; allowed: tables, as [[links]]");
});

test("names the driver's table that a misspelt one is near to", () => {
  const text = gateway('[[links]]\npath = "/dev/x"\n[links.line]\nformat = "json"');
  assert.throws(() => parseSettings(text, PATH, driverTables), {
    message: 'sluice.toml:4: links[0].line is not a known key; the nearest known key is "lines"',
  });
});

test("refuses a password without a user", () => {
  const password = 'password_file = "/x"';
  assert.equal(
    faultOf(gateway(`[bridge]\n${password}`)),
    'sluice.toml:3: bridge.password_file is "/x"; allowed: beside username',
  );
  const link = `[[links]]\npath = "/dev/x"\n${password}`;
  assert.match(faultOf(gateway(link)), /:4: links\[0\]\.password_file .*beside username$/);
  const bridge = '[bridge]\nusername = "bridge"\n';
  assert.doesNotThrow(() => parseSettings(gateway(bridge + link), PATH));
});

test("names what is there twice", () => {
  const link = '[[links]]\npath = "/dev/x"\n';
  const channels = '[[links.channels]]\nname = "t"\n'.repeat(2);
  assert.match(faultOf(gateway(link + channels)), /each name once for a device; "t" is there/);
  const devices = '[[links.devices]]\nname = "n"\n'.repeat(2);
  assert.match(faultOf(gateway(link + devices)), /each name once; "n" is there twice$/);
});

test("never names a key that the table has already", () => {
  const fault = faultOf(gateway('[status]\naddress = "127.0.0.1:1"\nadress = "127.0.0.1:1"'));
  assert.equal(fault, "sluice.toml:4: status.adress is not a known key");
});

test("knows no key by the names that every object has", () => {
  for (const key of ["toString", "constructor", "__proto__", "hasOwnProperty"]) {
    assert.match(faultOf(gateway(`${key} = 1`)), /:2: \w+ is not a known key/);
  }
});

test("tells every unknown key of a table, not only the first", () => {
  const faults = faultsOf(gateway("aaa = 1\nbbb = 2\n[access]\nccc = 3\nddd = 4\n"));
  assert.deepEqual(
    faults.map((fault) => /^sluice\.toml:(\d): (\S+) is not/.exec(fault)?.slice(1).join(" ")),
    ["2 aaa", "3 bbb", "5 access.ccc", "6 access.ddd"],
  );
});

test("tells every fault at once, in the order of the file", () => {
  const text = `
role = "cloud"
name = "-x"
colour = "red"
[[listeners]]
protocol = "mqtts"
address = "127.0.0.1:1883"
prxy = true
[limits]
connections_max = "many"
[uplink]
url = "rediss://x"
[[uplink.forward]]
filter = "a#"
lane = "nowhere"
`;
  const lines = faultsOf(text).map((fault) => fault.split(" is ")[0]);
  assert.deepEqual(lines, [
    "sluice.toml:1: landing",
    "sluice.toml:1: cluster",
    "sluice.toml:3: name",
    "sluice.toml:4: colour",
    "sluice.toml:5: listeners[0].cert_file",
    "sluice.toml:5: listeners[0].key_file",
    "sluice.toml:8: listeners[0].prxy",
    "sluice.toml:10: limits.connections_max",
    "sluice.toml:11: uplink",
    "sluice.toml:14: uplink.forward[0].filter",
    "sluice.toml:15: uplink.forward[0].lane",
  ]);
});

test("says what it found and what is allowed", () => {
  const cases: Record<string, string> = {
    'limits.connections_max = "5"': '"5"; allowed: a whole number',
    "limits.connections_max = 1.5": "1.5; allowed: a whole number from 1 to 1000000",
    "limits.connections_max = nan": "NaN; allowed: a whole number",
    "limits.connections_max = 1_000_001": "1000001; allowed: a whole number from 1 to 1000000",
    "limits = 3": "3; allowed: a table",
    "listeners = {}": "a table; allowed: tables, as [[listeners]]",
    "data = 2026-01-01": "a date; allowed: a path",
    'data = ""': '""; allowed: a path',
    "data = true": "true; allowed: a path",
    "data = []": "an array; allowed: a path",
    'log.level = "loud"': '"loud"; allowed: "error", "warn", "info", "debug"',
    'status.address = "18x83"': '"18x83"; allowed: host:port, as "127.0.0.1:1883"',
    'status.address = "localhost:65536"':
      '"localhost:65536"; allowed: host:port, as "127.0.0.1:1883"',
    "bridge.username = 5": "5; allowed: text in quotes",
    "[[status]]": "an array; allowed: a table, as [name]",
  };
  for (const [text, said] of Object.entries(cases)) {
    const fault = faultOf(gateway(text.startsWith("[[") ? `${text}\naddress = "h:1"` : text));
    assert.equal(fault.slice(fault.indexOf(" is ") + 4), said, text);
  }
});

test("takes origins in the one spelling that browsers send, or all of them", () => {
  const listenerWith = (origin: string) =>
    gateway(`[[listeners]]\nprotocol = "ws"\naddress = "h:1"\norigins = ["${origin}"]`);
  for (const good of ["*", "https://app.example.com", "http://app.example.com:8080"]) {
    assert.deepEqual(parseSettings(listenerWith(good), PATH).listeners[0]?.origins, [good]);
  }
  const allowed = 'allowed: "*" or an origin as browsers send it, as "https://app.example.com"';
  for (const bad of [
    "app.example.com",
    "https://app.example.com/",
    "https://app.example.com:443",
    "https://APP.example.com",
    "wss://app.example.com",
  ]) {
    const fault = faultOf(listenerWith(bad));
    assert.ok(fault.startsWith("sluice.toml:5: listeners[0].origins[0] is "), fault);
    assert.ok(fault.endsWith(allowed), fault);
  }
});

test("takes as server reference what MQTT 5 can tell a client", () => {
  const withReference = (text: string) => gateway(`access.server_reference = "${text}"`);
  for (const good of ["b2:8883", "b2.example.com b3.example.com:1883"]) {
    assert.equal(parseSettings(withReference(good), PATH).access.server_reference, good);
  }
  for (const bad of ["", " b2", "b2\\nb3", "b2\\u0000", "b".repeat(1_025)]) {
    assert.match(faultOf(withReference(bad)), /access\.server_reference is .*1024 characters/);
  }
});

test("grants by the filter of a shared subscription, not by its group", () => {
  const fault = faultOf(gateway('[[access.rights]]\nsubscribe = ["a/#", "$share/g/a"]'));
  assert.equal(
    fault,
    'sluice.toml:3: access.rights[0].subscribe[1] is "$share/g/a"; ' +
      "allowed: the filter that stands behind $share/<group>/",
  );
});

test("names what is missing and what it may be", () => {
  assert.equal(faultOf(""), 'sluice.toml:1: role is missing; allowed: "gateway", "cloud"');
  assert.equal(
    faultOf(gateway("[uplink]\nprobe_seconds = 3")),
    "sluice.toml:2: uplink.url is missing; " +
      "allowed: a URL that begins with redis:// or rediss://, or an array of such",
  );
  assert.equal(
    faultOf(gateway('[[listeners]]\nprotocol = "wss"\naddress = "h:1"\nkey_file = "/k"')),
    "sluice.toml:2: listeners[0].cert_file is missing; " +
      "allowed: with mqtts and wss, the path of a PEM certificate",
  );
});

test("tells a cloud without [landing] and [cluster] that it needs them", () => {
  assert.deepEqual(faultsOf('role = "cloud"'), [
    "sluice.toml:1: landing is missing; allowed in role cloud: a [landing] table with its url",
    "sluice.toml:1: cluster is missing; allowed in role cloud: a [cluster] table with its url",
  ]);
});

test("refuses the tables of the other role", () => {
  const cloud = 'role = "cloud"\nlanding.url = "redis://l"\ncluster.url = "redis://c"\n';
  assert.equal(parseSettings(cloud, PATH).role, "cloud");
  assert.match(faultOf(`${cloud}uplink.url = "redis://u"`), /:4: uplink .* role = "gateway" only$/);
  assert.match(
    faultOf(gateway('landing.url = "redis://l"')),
    /:2: landing .* role = "cloud" only$/,
  );
  assert.match(
    faultOf(gateway('cluster.url = "redis://c"')),
    /:2: cluster .* role = "cloud" only$/,
  );
});

test("refuses a lane that is not there, and names, paths and devices that stand twice", () => {
  const forward = '[uplink]\nurl = "redis://x"\n[[uplink.forward]]\nfilter = "#"\nlane = "fast"';
  assert.equal(
    faultOf(gateway(forward)),
    'sluice.toml:6: uplink.forward[0].lane is "fast"; allowed: a lane of [outbox]: default',
  );
  const lanes = '[[outbox.lanes]]\nname = "a"\n[[outbox.lanes]]\nname = "a"';
  assert.match(faultOf(gateway(lanes)), /:5: outbox\.lanes\[1\]\.name is "a"; .*each name once/);
  const link = (device: string, path: string) =>
    `[[links]]\npath = "${path}"\ndevice = "${device}"\n`;
  assert.match(
    faultOf(gateway(link("d", "/a") + link("d", "/b"))),
    /:7: links\[1\]\.device is "d"/,
  );
  assert.match(
    faultOf(gateway(link("d", "/a") + link("e", "/a"))),
    /:6: links\[1\]\.path is "\/a"/,
  );
});

test("never shows a password that stands in a URL", () => {
  const urls = [
    "rediss://gw:hunter2@cloud:6380",
    "rediss://:hunter2@cloud:6380",
    "rediss://gw:hunter2@hunter2@cloud:6380",
    "rediss://gw:hun/hunter2@cloud:6380",
    "rediss://gw:#hunter2@cloud:6380",
    "rediss://gw:?hunter2@cloud:6380",
    "http://gw:hunter2@cloud",
    "rediss://gw:hunter2",
    "rediss://cloud:port/hunter2",
    "http://cloud/?password=hunter2",
  ];
  for (const url of urls) {
    for (const key of ["uplink.url", "bridge.broker"]) {
      const said = faultsOf(gateway(`${key} = "${url}"`)).join("\n");
      assert.ok(!said.includes("hunter2"), said);
      assert.match(said, /:2: (uplink\.url|bridge\.broker) is "/);
    }
  }
});

test("takes one address of the landing or several, each without a password", () => {
  const urls = ["redis://a", "rediss://gw@b:6380"];
  const of = (url: unknown) => gateway(`uplink.url = ${JSON.stringify(url)}`);
  assert.equal(parseSettings(of(urls[0]), PATH).uplink?.url, urls[0]);
  assert.deepEqual(parseSettings(of(urls), PATH).uplink?.url, urls);
  assert.match(faultOf(of([])), /:2: uplink\.url is an array; allowed: at least one URL$/);
  assert.match(faultOf(of(Array(9).fill("redis://a"))), /allowed: at most 8 URLs$/);
  assert.match(faultOf(of(3)), /uplink\.url is 3; allowed: a URL .*, or an array of such$/);
  assert.match(faultOf(of(["redis://a", "http://b"])), /uplink\.url\[1\] is "http:\/\/b"; allowed/);
  const secret = faultOf(of(["redis://a", "redis://u:hunter2@b"]));
  assert.match(secret, /uplink\.url\[1\] is "redis:\/\/…@b"; .* password_file$/);
});

test("refuses a URL with a password and says where it belongs", () => {
  for (const text of ['uplink.url = "redis://:x@h"', 'bridge.broker = "mqtt://u:x@h:1"']) {
    assert.match(faultOf(gateway(text)), /; allowed: a URL without a password; .* password_file$/);
  }
});

test("keeps a line short however long the value or the key is", () => {
  const long = "x".repeat(10_000);
  const texts = [
    `data = ["${long}"]`,
    `log.level = "${long}"`,
    `"${long}" = 1`,
    `uplink.url = "${long}"`,
  ];
  for (const text of texts) assert.ok(faultOf(gateway(text)).length < 400);
});

test("names the line of what is not TOML", () => {
  const cases: [string, number][] = [
    ['role = "gateway"\nname = gw', 2],
    ['role = "gateway"\r\n\r\n[status\r\n', 3],
    ['role = "gateway"\nrole = "gateway"\n', 2],
    ['name = "unclosed', 1],
  ];
  for (const [text, line] of cases) {
    assert.match(faultOf(text), RegExp(`^sluice\\.toml:${line}: not TOML: \\S`), text);
  }
});

test("shows nothing of the value in what is not TOML", () => {
  for (const text of ['password = "hunter2', "password = hunter2", 'password = "x" hunter2']) {
    assert.ok(!faultOf(text).includes("hunter2"), faultOf(text));
  }
});

test("names a file that is missing or cannot be read", (t) => {
  const folder = temporaryFolder(t);
  for (const path of [join(folder, "none.toml"), folder]) {
    assert.throws(
      () => readSettings(path),
      (fault: SluiceError) =>
        fault.code === "SETTINGS_INVALID" &&
        fault.message.startsWith(`settings ${path} cannot be read: `) &&
        !fault.message.includes("\n"),
    );
  }
});

test("reads the file that it is given and names it in faults", (t) => {
  const path = join(temporaryFolder(t), "my.toml");
  writeFileSync(path, 'role = "gateway"\nname = "gw-7"\n');
  assert.equal(readSettings(path).name, "gw-7");
  writeFileSync(path, 'role = "gatway"\n');
  assert.throws(() => readSettings(path), {
    message: `${path}:1: role is "gatway"; allowed: "gateway", "cloud"`,
  });
});

test("takes a link by its path, its USB adapter or its address, and by one of them alone", () => {
  const match = 'match = { vid = "1A86", pid = "7523" }';
  const tcp = 'address = "tcp://[::1]:4001"';
  const udp = 'address = "udp://127.0.0.1:1885"';
  const link = (...lines: string[]) => gateway(`[[links]]\n${lines.join("\n")}`);
  const { links } = parseSettings(link(match, 'name = "x"'), PATH);
  assert.deepEqual(links[0]?.match, { vid: "1a86", pid: "7523" });
  assert.equal(
    parseSettings(link(tcp, 'device = "x"'), PATH).links[0]?.address,
    "tcp://[::1]:4001",
  );
  assert.doesNotThrow(() => parseSettings(link(udp, 'name = "x"', 'driver = "mqtt-sn"'), PATH));
  const cases = {
    "links[0].path is missing; allowed: one of path, match and address": link('name = "x"'),
    "links[0].match is a table; allowed: without path": link('path = "/dev/x"', match),
    'links[0].path is "ttyUSB0"; allowed: a path that begins with /': link('path = "ttyUSB0"'),
    'links[0].address is "tcp://…"; allowed: without match': link(match, tcp, 'name = "x"'),
    "links[0].name is missing; allowed: with match, a name or a device": link(match),
    "links[0].name is missing; allowed: with address, a name or a device": link(tcp),
    'links[0].address is "udp://…"; allowed: udp:// with driver = "mqtt-sn" only': link(
      udp,
      'name = "x"',
    ),
    "links[0].match.vid is missing; allowed: four": link('match = { pid = "7523" }', 'name = "x"'),
    'links[0].match.pid is "75"; allowed: four': link(
      'match = { vid = "1a86", pid = "75" }',
      'name = "x"',
    ),
    'links[0].address is "tcp://…"; allowed: "tcp://host:port"': link(
      'address = "tcp://host"',
      'name = "x"',
    ),
    "links[0].rs485 is a table; allowed: without hardware_flow": link(
      'path = "/dev/x"',
      "rs485 = {}",
      "hardware_flow = true",
    ),
  };
  for (const [fault, text] of Object.entries(cases)) {
    const found = faultOf(text).replace(/(tcp|udp):\/\/[^"]*"; allowed/g, '$1://…"; allowed');
    assert.ok(found.includes(fault), `${found} does not say ${fault}`);
  }
});
