// lines.test: what the codec of line devices promises.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { reasonOf } from "#contract/errors";
import { parseSettings } from "#runtime/settings";
import type { Decoded } from "../../../../firmware-bridge/driver.ts";
import { driverTables } from "../../../../firmware-bridge/drivers/drivers.ts";
import {
  LinesCodec,
  type LinesSettings,
  lines,
} from "../../../../firmware-bridge/drivers/lines/lines.ts";
import { fakeHost } from "../../fake-host.ts";
import { linesSettings } from "../../link-settings.ts";

const RUNS = { seed: 20_260_104, numRuns: 500 } as const;
const FORMATS = ["text", "json", "key-value", "csv", "regex"] as const;
const LINE_ENDS = { lf: "\n", crlf: "\r\n", cr: "\r" } as const;

function decode(settings: Partial<LinesSettings>, ...chunks: (string | Uint8Array)[]): Decoded[] {
  const codec = new LinesCodec(linesSettings(settings));
  return chunks.flatMap((chunk) => codec.decode(Buffer.from(chunk as string)));
}

/** The messages as `channel=payload`, faults as `! reason`. */
function told(decoded: readonly Decoded[]): string[] {
  return decoded.map((it) => {
    if (it.kind !== "message") return it.kind === "fault" ? `! ${it.reason}` : "about";
    return `${it.message.channel}=${Buffer.from(it.message.payload).toString("latin1")}`;
  });
}

function says(settings: Partial<LinesSettings>, ...chunks: (string | Uint8Array)[]): string[] {
  return told(decode(settings, ...chunks));
}

function encode(
  settings: Partial<LinesSettings>,
  channel: string | undefined,
  payload: string | Uint8Array,
) {
  const codec = new LinesCodec(linesSettings(settings));
  const encoded = codec.encode({ channel, payload: Buffer.from(payload as string) });
  return encoded.kind === "bytes" ? Buffer.from(encoded.bytes).toString("latin1") : encoded;
}

const refused = (reason: RegExp, encoded: unknown) => {
  const { kind, reason: why } = encoded as { kind: string; reason: string };
  assert.equal(kind, "refused", `${encoded}`);
  assert.match(why, reason);
};

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

test("json: has a channel for each key, with values as they were written", () => {
  const line =
    '{"t":21.50,"n":18446744073709551616,"s":"ein \u00e4","b":true,"z":null,"o":{"x":[1.0]}}\n';
  assert.deepEqual(says({ format: "json" }, line), [
    "t=21.50",
    "n=18446744073709551616",
    `s=${Buffer.from("ein ä").toString("latin1")}`,
    "b=true",
    "z=null",
    'o={"x":[1.0]}',
  ]);
});

test("json: publishes whole what is no object, or an empty one", () => {
  for (const line of [
    "1.50",
    '"text"',
    "[1, 2]",
    "null",
    "{}",
    ' {"a": 1} '.replace(/.*/, "{ }"),
  ]) {
    assert.deepEqual(says({ format: "json" }, `${line}\n`), [`line=${line}`]);
  }
});

test("reads text with a byte order mark before it", () => {
  assert.deepEqual(says({ format: "json" }, '\ufeff{"t":1}\n'), ["t=1"]);
  assert.deepEqual(says({ format: "key-value" }, "\ufefft=1\n"), ["t=1"]);
});

test("json: makes keys safe as a topic level, and keeps them off the device's own topics", () => {
  const line =
    '{"a/b":1,"+":2,"#x":3,"n\\u0000l":4,"set":5,"availability":6,"result":7,"__proto__":8}\n';
  assert.deepEqual(says({ format: "json" }, line), [
    "a_b=1",
    "_=2",
    "_x=3",
    "n_l=4",
    "set_=5",
    "availability_=6",
    "result_=7",
    "__proto__=8",
  ]);
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

test("json: takes an object as deep as a line can hold, or says that it cannot", () => {
  for (const depth of [1_000, 32_000]) {
    const line = `{"a":${"[".repeat(depth)}${"]".repeat(depth)}}`;
    const [first] = says({ format: "json", line_bytes_max: 65_536 }, `${line}\n`);
    assert.match(first ?? "", /^(a=\[|! a line is not json)/);
  }
});

test("key-value: reads pairs as devices write them", () => {
  const lines: Record<string, string[]> = {
    "a=1 b=2": ["a=1", "b=2"],
    "a=1,b=2": ["a=1", "b=2"],
    "a=1;b=2;": ["a=1", "b=2"],
    "a: 1": ["a=1"],
    "T:21.5,H:40": ["T=21.5", "H=40"],
    "Temperature: 21.5 C, Humidity: 40 %": ["Temperature=21.5 C", "Humidity=40 %"],
    "a = 1": ["a=1"],
    "a= b=2": ["a=", "b=2"],
    "a=,b=2": ["a=", "b=2"],
    "at: 2026-01-01 12:30:05, n: 1": ["at=2026-01-01 12:30:05", "n=1"],
    "see: http://host:80/x?y=z": ["see=http://host:80/x?y=z"],
    'msg="hello, a=1" n=2': ["msg=hello, a=1", "n=2"],
    "\u00e9=1": ["\u00e9=1"],
    "28-ff=21.5 set=1 a/b=2": ["28-ff=21.5", "set_=1", "a_b=2"],
  };
  for (const [line, messages] of Object.entries(lines)) {
    assert.deepEqual(says({ format: "key-value" }, `${line}\n`), messages, line);
  }
});

test("key-value: takes time in proportion to the line, whatever it holds", () => {
  for (const piece of [" ", "a", "a ", "a=", "a: ", ", ", '"', ' a="', "k ".repeat(20), "a b:"]) {
    const line = piece.repeat(65_000 / piece.length);
    const startedMs = performance.now();
    says({ format: "key-value", line_bytes_max: 65_536 }, `a=1 ${line}\n`);
    const tookMs = performance.now() - startedMs;
    assert.ok(tookMs < 1_000, `${JSON.stringify(piece)} took ${tookMs} ms`);
  }
});

test("csv: names fields by column, then by number", () => {
  const format = "csv";
  assert.deepEqual(says({ format }, "1,2\n"), ["1=1", "2=2"]);
  assert.deepEqual(says({ format, columns: ["t", "h"] }, "21.5\n"), ["t=21.5"]);
  assert.deepEqual(says({ format, columns: ["t", "h"] }, "21.5,40,x,\n"), [
    "t=21.5",
    "h=40",
    "3=x",
    "4=",
  ]);
  assert.deepEqual(says({ format, columns: ["set"] }, "1\n"), ["set_=1"]);
});

test("csv: reads quoted fields, by RFC 4180, and blanks around fields", () => {
  const columns = ["a", "b", "c"];
  const read = (line: string, separator = ",") =>
    says({ format: "csv", columns, separator }, `${line}\n`);
  assert.deepEqual(read('"x,y","say ""hi""",z'), ["a=x,y", 'b=say "hi"', "c=z"]);
  assert.deepEqual(read(' 1 , " 2 " ,5"'), ["a=1", "b= 2 ", 'c=5"']);
  assert.deepEqual(read('"",""'), ["a=", "b="]);
  assert.deepEqual(read("1\t\t3", "\t"), ["a=1", "b=", "c=3"]);
  assert.deepEqual(read("1;2,5", ";"), ["a=1", "b=2,5"]);
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

test("key-value: refuses what would bring a second pair with it", () => {
  for (const value of ["1 valve=1", "1,valve=1", "1;valve=1", '"1', "1\tvalve=1"]) {
    refused(/a value holds no blank/, encode({ format: "key-value" }, "led", value));
  }
  for (const channel of ["led=1 valve", "a b", "a:b c", 'a"']) {
    refused(/cannot be a key/, encode({ format: "key-value" }, channel, "1"));
  }
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

test("regex: has a channel for each named group, of the first expression that fits", () => {
  const patterns = [
    "^T (?<temperature>[-0-9.]+)(?: H (?<humidity>[0-9.]+))?$",
    "^(?<event>\\p{L}+)!$",
    "(?<set>[0-9]+)",
  ];
  const lines: Record<string, string[]> = {
    "T 21.50 H 40": ["temperature=21.50", "humidity=40"],
    "T -3": ["temperature=-3"],
    "Tür!": [`event=${Buffer.from("Tür").toString("latin1")}`],
    "no 7 here": ["set_=7"],
    nothing: ["! a line is not regex", "unparsed=nothing"],
  };
  for (const [line, expected] of Object.entries(lines)) {
    assert.deepEqual(says({ format: "regex", patterns }, `${line}\n`), expected, line);
  }
});

test("regex: takes time in proportion to the line, whatever stands in it", () => {
  for (const pattern of ["^(?<a>(?:a+)+)$", "^(?<a>.*.*.*.*=.*)$", "^(?<a>(?:a?){100}a{100})b$"]) {
    const format = "regex" as const;
    const settings = { format, patterns: [pattern], line_bytes_max: 65_536 };
    const startedMs = performance.now();
    says(settings, `${"a".repeat(65_000)}!\n`);
    const tookMs = performance.now() - startedMs;
    assert.ok(tookMs < 2_000, `${pattern} took ${tookMs} ms`);
  }
});

test("puts what a line says into the channel, and the rest below it", () => {
  const settings = { format: "json", channel: "{sensor}" } as const;
  assert.deepEqual(says(settings, '{"sensor":"cellar","t":21.50,"h":40}\n'), [
    "cellar/t=21.50",
    "cellar/h=40",
  ]);
  assert.deepEqual(says({ format: "key-value", channel: "room-{n}/now" }, "n=7 t=21\n"), [
    "room-7/now/t=21",
  ]);
});

test("makes one message of a line with a template of its value", () => {
  const fields = { channel: "{sensor}/{name}", value: "{value}" };
  assert.deepEqual(says({ format: "json", ...fields }, '{"sensor":"a","name":"t","value":3.0}\n'), [
    "a/t=3.0",
  ]);
  const patterns = ["^(?<sensor>\\w+) (?<name>\\w+) (?<value>.+)$"];
  assert.deepEqual(says({ format: "regex", patterns, ...fields }, "a t 3.0\n"), ["a/t=3.0"]);
  const columns = ["sensor", "name"];
  const value = '{"value":{3}}';
  assert.deepEqual(says({ format: "csv", columns, channel: "{sensor}/{name}", value }, "a,t,3\n"), [
    'a/t={"value":3}',
  ]);
});

test("lets no value of a line widen the channel, or take one of the device's own topics", () => {
  const settings = { format: "json", channel: "{s}", value: "x" } as const;
  for (const [sensor, channel] of Object.entries({ "a/b": "a_b", "#": "_", set: "set_" })) {
    assert.deepEqual(says(settings, `{"s":"${sensor}"}\n`), [`${channel}=x`]);
  }
});

test("publishes as unparsed, and counts, what does not fill a template", () => {
  const lines: Record<string, string> = {
    '{"n":"t"}': "does not fill the channel {s}",
    '{"s":""}': "does not fill the channel {s}",
    '{"s":"a"}': "does not fill the value {v}",
    "{": "is not json",
  };
  for (const [line, reason] of Object.entries(lines)) {
    assert.deepEqual(says({ format: "json", channel: "{s}", value: "{v}" }, `${line}\n`), [
      `! a line ${reason}`,
      `unparsed=${line}`,
    ]);
  }
  assert.deepEqual(says({ format: "json", channel: "{s}" }, '{"s":"a","":1}\n'), [
    "! a line has a name that is no channel",
    'unparsed={"s":"a","":1}',
  ]);
});

test("writes a command by the template of its channel, else by that of all", () => {
  const settings = {
    command: "SET {channel} {payload}",
    commands: [
      { channel: "led", send: "L{payload}", allow: ["0", "1"] },
      { channel: "dim/one", send: "D {payload}!", pattern: "[0-9]{1,3}" },
      { channel: "restart", send: "RST" },
    ],
  };
  assert.equal(encode(settings, "led", "1"), "L1\n");
  assert.equal(encode(settings, "dim/one", "255"), "D 255!\n");
  assert.equal(encode(settings, "restart", "PRESS"), "RST\n");
  assert.equal(encode(settings, "fan", "on {channel}"), "SET fan on {channel}\n");
  assert.equal(encode(settings, undefined, "raw"), "raw\n");
  refused(/^led takes "0", "1"$/, encode(settings, "led", "2"));
  refused(/^led takes/, encode(settings, "led", Buffer.of(0xff)));
  refused(/^dim\/one takes what fits/, encode(settings, "dim/one", "255 1"));
  refused(/one topic level/, encode(settings, "dim/two", "1"));
  refused(/holds a blank/, encode(settings, "fan on", "1"));
  refused(/one line/, encode(settings, "fan", "1\nRST"));
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
