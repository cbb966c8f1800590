// lines.test: what the codec of line devices promises.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Decoded } from "../../../../firmware-bridge/driver.ts";
import { LinesCodec, type LinesSettings } from "../../../../firmware-bridge/drivers/lines/lines.ts";
import { linesSettings } from "../../link-settings.ts";

const RUNS = { seed: 20_260_104, numRuns: 500 } as const;
const FORMATS = ["text", "json", "key-value", "csv"] as const;
const LINE_ENDS = { lf: "\n", crlf: "\r\n", cr: "\r" } as const;

function decode(settings: Partial<LinesSettings>, ...chunks: (string | Uint8Array)[]): Decoded[] {
  const codec = new LinesCodec(linesSettings(settings));
  return chunks.flatMap((chunk) => codec.decode(Buffer.from(chunk as string)));
}

/** The messages as `channel=payload`, faults as `! reason`. */
function told(decoded: readonly Decoded[]): string[] {
  return decoded.map((it) => {
    if (it.kind === "fault") return `! ${it.reason}`;
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
        if (decoded.kind === "fault") continue;
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
