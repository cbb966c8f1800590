// lines.test: what the codec of line devices promises.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { reasonOf } from "#contract/errors";
import { parseSettings } from "#runtime/settings";
import { driverTables } from "../../../../firmware-bridge/drivers/drivers.ts";
import { LinesCodec, lines } from "../../../../firmware-bridge/drivers/lines/lines.ts";
import { fakeHost } from "../../fake-host.ts";
import { linesSettings } from "../../link-settings.ts";
import { decode, encode, refused, says, told } from "../line-codec.ts";

const RUNS = { seed: 20_260_104, numRuns: 500 } as const;
const FORMATS = ["text", "json", "key-value", "csv", "regex"] as const;
const LINE_ENDS = { lf: "\n", crlf: "\r\n", cr: "\r" } as const;

const settingsOf = fc.record({
  format: fc.constantFrom(...FORMATS),
  line_end: fc.constantFrom("lf", "crlf", "cr"),
  line_bytes_max: fc.integer({ min: 1, max: 40 }),
  columns: fc.constantFrom<string[]>([], ["a"], ["t", "set"]),
  patterns: fc.constant<string[]>(["^(?<a>.+)=(?<b>[^=]*)$", "(?<set>[0-9]+)"]),
  checksum: fc.constantFrom("none", "xor", "none"),
  encoding: fc.constantFrom("utf-8", "latin1"),
});
// Bytes that matter to some format, among any others.
const byteOf = fc.oneof(
  fc.constantFrom(...Buffer.from('\n\r,;=: "{}[]a1_\u00e9')),
  fc.integer({ min: 0, max: 255 }),
);
const bytesOf = fc.array(byteOf, { maxLength: 300 }).map((bytes) => Buffer.from(bytes));

test("gives the same messages wherever the bytes are cut", () => {
  fc.assert(
    fc.property(settingsOf, bytesOf, fc.array(fc.nat(300)), (settings, bytes, cuts) => {
      const places = [0, ...cuts.filter((cut) => cut < bytes.length), bytes.length].sort(
        (a, b) => a - b,
      );
      const chunks = places.map((place, index) => bytes.subarray(places[index - 1] ?? 0, place));
      assert.deepEqual(says(settings, ...chunks), says(settings, bytes));
      const single = [...bytes].map((byte) => Buffer.of(byte));
      assert.deepEqual(says(settings, ...single), says(settings, bytes));
    }),
    RUNS,
  );
});

test("takes any bytes, and gives no more of them than a line may have", () => {
  fc.assert(
    fc.property(settingsOf, bytesOf, (settings, bytes) => {
      for (const decoded of decode(settings, bytes)) {
        if (decoded.kind !== "message") continue;
        const { channel, payload } = decoded.message;
        assert.match(channel, /^[^/+#\0]+$/);
        assert.ok(!["set", "result", "availability"].includes(channel));
        if (["line", "unparsed"].includes(channel)) {
          assert.ok(payload.length <= settings.line_bytes_max);
        }
      }
    }),
    RUNS,
  );
});

test("holds one line at the most, however long the device goes on", () => {
  const codec = new LinesCodec(linesSettings({ line_bytes_max: 4_096 }));
  const chunk = Buffer.alloc(65_536, "x");
  const before = process.memoryUsage().arrayBuffers;
  let faults = 0;
  for (let turn = 0; turn < 1_000; turn += 1) faults += codec.decode(chunk).length;
  assert.equal(faults, 1);
  assert.ok(process.memoryUsage().arrayBuffers - before < 1_000_000);
  assert.deepEqual(told(codec.decode(Buffer.from("\nnext\n"))), ["line=next"]);
});

test("brings back each text line that it was given, byte for byte", () => {
  const lineOf = fc
    .uint8Array({ minLength: 1, maxLength: 60 })
    .filter((line) => !line.includes(10) && !line.includes(13));
  fc.assert(
    fc.property(fc.array(lineOf), fc.constantFrom("lf", "crlf", "cr"), (lines, line_end) => {
      const end = Buffer.from(LINE_ENDS[line_end]);
      const decoded = decode({ line_end }, Buffer.concat(lines.flatMap((line) => [line, end])));
      const payloads = decoded.map(
        (it) => it.kind === "message" && Buffer.from(it.message.payload),
      );
      assert.deepEqual(
        payloads,
        lines.map((line) => Buffer.from(line)),
      );
    }),
    RUNS,
  );
});

test("ends lines where the settings say", () => {
  const bytes = "a\rb\r\nc\n\r\nd\n";
  assert.deepEqual(says({ line_end: "lf" }, bytes), ["line=a\rb", "line=c", "line=d"]);
  assert.deepEqual(says({ line_end: "crlf" }, bytes), ["line=a\rb", "line=c\n"]);
  assert.deepEqual(says({ line_end: "cr" }, bytes), ["line=a", "line=b", "line=\nc\n"]);
});

test("lets a line go that is longer than its bound, and only that one", () => {
  for (const line_end of ["lf", "crlf", "cr"] as const) {
    const end = LINE_ENDS[line_end];
    assert.deepEqual(
      says({ line_end, line_bytes_max: 3 }, `abc${end}abcd${end}abcde${end}xyz${end}`),
      [
        "line=abc",
        "! a line is longer than 3 bytes",
        "! a line is longer than 3 bytes",
        "line=xyz",
      ],
    );
  }
  assert.deepEqual(says({ line_bytes_max: 3 }, "abc\r\nabcd\r\n"), [
    "line=abc",
    "! a line is longer than 3 bytes",
  ]);
});

test("reads text with a byte order mark before it", () => {
  assert.deepEqual(says({ format: "json" }, '\ufeff{"t":1}\n'), ["t=1"]);
  assert.deepEqual(says({ format: "key-value" }, "\ufefft=1\n"), ["t=1"]);
});

test("publishes as unparsed, and counts, what is not of the format", () => {
  const deep = "[".repeat(60_000);
  const lines = {
    json: ["{", "{'a':1}", "hello", '{"":1}', `{"${"k".repeat(200)}":1}`, "\u00ff\u00fe", deep],
    "key-value": [
      "hello",
      "=1",
      "a",
      "12:30",
      "text a=1",
      'a="open',
      'a="x"b=1',
      "\u00ff=1",
      ",",
      " ",
    ],
    csv: ['"open', 'a,"b" c', '1,"2"3', "\u00ff"],
  } as const;
  for (const format of ["json", "key-value", "csv"] as const) {
    for (const line of lines[format]) {
      const bytes = Buffer.from(`${line}\n`, "latin1");
      assert.deepEqual(says({ format, line_bytes_max: 65_536 }, bytes), [
        `! a line is not ${format}`,
        `unparsed=${line}`,
      ]);
    }
  }
});

test("writes a whole command as one line, byte for byte", () => {
  const all = Array.from({ length: 256 }, (_, index) => index);
  const payload = Buffer.from(all.filter((byte) => byte !== 10 && byte !== 13));
  for (const format of FORMATS) {
    for (const [line_end, end] of Object.entries(LINE_ENDS)) {
      const settings = { format, line_end: line_end as keyof typeof LINE_ENDS };
      assert.equal(encode(settings, undefined, payload), `${payload.toString("latin1")}${end}`);
    }
  }
  assert.equal(encode({}, undefined, ""), "\n");
});

test("writes a command to a channel as the format says it", () => {
  assert.equal(encode({ format: "text" }, "led", "on, now"), "led=on, now\n");
  assert.equal(encode({ format: "csv" }, "led", "1"), "led=1\n");
  assert.equal(encode({ format: "key-value" }, "led", "1"), "led=1\n");
  assert.equal(encode({ format: "json" }, "led", "on"), '{"led":"on"}\n');
  assert.equal(
    encode({ format: "json" }, "led", '{"r": 1.0,\n "g": 18446744073709551616}'),
    '{"led":{"r":1.0,"g":18446744073709551616}}\n',
  );
  assert.equal(encode({ format: "json" }, "led", "two\nlines"), '{"led":"two\\nlines"}\n');
  assert.equal(encode({ format: "json" }, 'a"b', ""), '{"a\\"b":""}\n');
});

test("refuses a command that would be more than one line, or too long a line", () => {
  for (const format of FORMATS) {
    for (const payload of ["a\nb", "a\rb", "a\r\n", "\n"]) {
      refused(/one line/, encode({ format }, undefined, payload));
    }
    refused(
      /longer than 10 bytes/,
      encode({ format, line_bytes_max: 10 }, undefined, "x".repeat(11)),
    );
    refused(/empty/, encode({ format }, "", "x"));
    refused(/one topic level/, encode({ format }, "a/b", "x"));
  }
  refused(/one line/, encode({ format: "text" }, "led", "1\nvalve=1"));
  refused(/one line/, encode({ format: "text" }, "a\nb", "1"));
  refused(/UTF-8/, encode({ format: "json" }, "led", Buffer.of(0xff)));
});

test("no command becomes more than one line, whatever it holds", () => {
  fc.assert(
    fc.property(
      settingsOf,
      fc.option(fc.string(), { nil: undefined }),
      bytesOf,
      (settings, channel, payload) => {
        const encoded = new LinesCodec(linesSettings(settings)).encode({ channel, payload });
        if (encoded.kind === "refused") return;
        const end = LINE_ENDS[settings.line_end];
        const text = Buffer.from(encoded.bytes).toString("latin1");
        assert.ok(text.endsWith(end));
        assert.doesNotMatch(text.slice(0, -end.length), /[\r\n]/);
        assert.ok(text.length <= settings.line_bytes_max + end.length);
      },
    ),
    RUNS,
  );
});

test("latin1: reads and writes the device's bytes as UTF-8's characters", () => {
  const encoding = "latin1";
  const line = Buffer.from("t=21.5 °C\n", "latin1");
  const expected = Buffer.from("21.5 °C").toString("latin1");
  assert.deepEqual(says({ encoding, format: "key-value" }, line), [`t=${expected}`]);
  assert.deepEqual(says({ encoding }, line), [`line=t=${expected}`]);
  assert.equal(encode({ encoding }, "unit", "°C"), "unit=°C\n");
  assert.equal(encode({ encoding }, undefined, "°C"), "°C\n");
  // Its low byte is a line end.
  refused(/outside of latin1/, encode({ encoding }, undefined, "\u010a"));
  refused(/UTF-8/, encode({ encoding }, undefined, Buffer.of(0xff)));
});

const SUMS = {
  nmea: ["$GPGLL,4916.45,N,12311.12,W,225444,A", "*31"],
  xor: ["123456789", "*31"],
  sum8: ["123456789", "*DD"],
  "crc16-modbus": ["123456789", "*4B37"],
  "crc16-ccitt": ["123456789", "*29B1"],
  crc32: ["123456789", "*CBF43926"],
} as const;

test("publishes what comes with the right checksum, without it, and writes it behind commands", () => {
  for (const [name, [body, sum]] of Object.entries(SUMS)) {
    const settings = { checksum: name as keyof typeof SUMS };
    assert.deepEqual(says(settings, `${body}${sum}\n${body}${sum.toLowerCase()}\r\n`), [
      `line=${body}`,
      `line=${body}`,
    ]);
    assert.equal(encode(settings, undefined, body), `${body}${sum}\n`);
  }
  const settings = { checksum: "sum8", checksum_separator: "" } as const;
  assert.deepEqual(says(settings, "123456789dd\n"), ["line=123456789"]);
  assert.equal(encode(settings, undefined, "123456789"), "123456789DD\n");
});

test("never publishes what comes with a wrong checksum or none, and tells its bytes", () => {
  const cases = {
    "123456789*30": "wrong",
    "123456789": "absent",
    "*3": "absent",
    "1*3x": "absent",
  };
  for (const [line, checked] of Object.entries(cases)) {
    const decoded = decode({ checksum: "xor" }, `${line}\n`);
    assert.deepEqual(told(decoded), [`! a line's checksum is ${checked}`]);
    const [fault] = decoded;
    assert.equal(fault?.kind === "fault" && String(fault.frame), line);
  }
});

test("any one bit that is turned over makes a checksum wrong or absent", () => {
  for (const [name, [body, sum]] of Object.entries(SUMS)) {
    for (let bit = 0; bit < 8 * body.length; bit += 1) {
      const line = Buffer.from(`${body}${sum}`);
      line[bit >> 3] = (line[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      // A bit may make a line end of it, or the sign that begins a sentence.
      if (line.includes(10) || line.includes(13) || bit < 8) continue;
      const settings = { checksum: name as keyof typeof SUMS };
      assert.match(says(settings, Buffer.concat([line, Buffer.from("\n")]))[0] ?? "", /^! /);
    }
  }
});

test("counts a command's checksum among the bytes that a line may have", () => {
  const settings = { checksum: "xor", line_bytes_max: 10 } as const;
  assert.equal(encode(settings, undefined, "1234567"), "1234567*30\n");
  refused(/longer than 10 bytes/, encode(settings, undefined, "12345678"));
});

const faultsOf = (table: string) => {
  const head = 'role = "gateway"\n[[links]]\npath = "/dev/x"\n[links.lines]\n';
  try {
    parseSettings(head + table, "test.toml", driverTables);
    return "";
  } catch (fault) {
    return reasonOf(fault);
  }
};

test("tells at the check of the settings what no line or command could be read or written by", () => {
  const regex = (pattern: string) => `format = "regex"\npatterns = ['${pattern}']`;
  const cases: Readonly<Record<string, RegExp>> = {
    'format = "regex"': /patterns .*at least one regular expression/,
    'columns = ["a"]': /columns .*only with format = "csv"/,
    'patterns = ["(?<a>b)"]': /patterns .*only with format = "regex"/,
    [regex("(?<a>b")]: /patterns\[0\] .*regular expression of RE2; .*missing closing \)/,
    [regex("(?<a>b)(?=c)")]: /patterns\[0\] .*regular expression of RE2; .*\(\?=/,
    [regex("([0-9]+)")]: /patterns\[0\] .*with a named group, as/,
    [regex(`(?<${"a".repeat(129)}>b)`)]: /patterns\[0\] .*at most 128 characters/,
    'value = "{a}"': /value .*only beside channel/,
    [`${regex("(?<a>b)")}\nchannel = "{c}"`]: /channel .*places \{a\}, not \{c\}/,
    [`${regex("(?<a>b)")}\nchannel = "{1}"`]: /channel .*places \{a\}, not \{1\}/,
    'format = "csv"\nchannel = "{a}"': /channel .*of numbers, as \{1\}, not \{a\}/,
    'format = "csv"\ncolumns = ["a"]\nchannel = "{2}{1}"': /channel .*\{a\}, not \{1\}/,
    'format = "csv"\ncolumns = ["a"]\nchannel = "{a}"\nvalue = "{b}"': /value .*\{a\}, not \{b\}/,
    'format = "json"\nchannel = "{sensor"': /channel .*each \{ with its \}/,
    'command = "SET {payload"': /command .*\{channel\} and \{payload\}/,
    'channel = "a//b"': /channel .*none of them empty/,
    'channel = "a/#"': /channel .*topic levels/,
    'command = "SET {chanel}"': /command .*\{channel\} and \{payload\}/,
    'commands = [{ channel = "a", send = "b" }, { channel = "a", send = "c" }]':
      /commands .*each channel once; "a" is there twice/,
    'commands = [{ channel = "a", send = "{b}" }]': /commands\[0\].send .*\{channel\}/,
    'commands = [{ channel = "a", send = "b", pattern = "(" }]': /commands\[0\].pattern .*RE2/,
    'checksum_separator = "\\n"': /checksum_separator .*printable/,
  };
  for (const [table, expected] of Object.entries(cases)) assert.match(faultsOf(table), expected);
});

test("names the channels that its settings name", () => {
  const host = fakeHost();
  const patterns = ["(?<t>[0-9]+)", "(?<set>x)"];
  const commands = [{ channel: "led", send: "L{payload}" }];
  lines.create(linesSettings({ format: "regex", patterns, commands }), host);
  assert.deepEqual(host.known("box").about, {
    channels: [{ name: "t" }, { name: "set_" }, { name: "led", writable: true }],
  });
});
