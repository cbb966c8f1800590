// nmea.test: what the codec of NMEA 0183 promises.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Decoded } from "../../../../firmware-bridge/driver.ts";
import { nmeaChecksum } from "../../../../firmware-bridge/drivers/framing/checksums.ts";
import { NmeaCodec, type NmeaSettings } from "../../../../firmware-bridge/drivers/nmea/nmea.ts";

const RUNS = { seed: 20_260_104, numRuns: 500 } as const;

function codec(some: Partial<NmeaSettings> = {}): NmeaCodec {
  return new NmeaCodec({ checksum: "required", sentences: "none", ...some });
}

function told(decoded: readonly Decoded[]): string[] {
  return decoded.map((it) => {
    if (it.kind !== "message") return it.kind === "fault" ? `! ${it.reason}` : "about";
    return `${it.message.channel}=${Buffer.from(it.message.payload)}`;
  });
}

/** What a new receiver's lines are told as. */
function says(some: Partial<NmeaSettings>, ...lines: string[]): string[] {
  return told(codec(some).decode(Buffer.from(lines.map((line) => `${line}\r\n`).join(""))));
}

/** With its checksum. */
function sentence(body: string): string {
  const digits = nmeaChecksum(Buffer.from(body, "latin1")).toString(16).padStart(2, "0");
  return `$${body}*${digits}`;
}

const on = (channel: string, messages: readonly string[]) =>
  messages.filter((it) => it.startsWith(`${channel}=`)).map((it) => it.slice(channel.length + 1));

const positions = (messages: readonly string[]) =>
  on("position", messages).map((it) => JSON.parse(it));

const gga = (time: string, rest = "4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,") =>
  sentence(`GPGGA,${time},${rest}`);
const rmc = (time: string, date = "230394", status = "A") =>
  sentence(`GPRMC,${time},${status},4807.038,N,01131.000,E,022.4,084.4,${date},003.1,W`);

/** Begins a moment without saying where. */
const next = (time: string) => sentence(`GPZDA,${time},04,07,2002,00,00`);

// As receivers' handbooks have them.
const HANDBOOK = [
  "$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47",
  "$GPGSA,A,3,04,05,,09,12,,,24,,,,,2.5,1.3,2.1*39",
  "$GPGSV,2,1,08,01,40,083,46,02,17,308,41,12,07,344,39,14,22,228,45*75",
  "$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6A",
];

test("tells a moment's sentences as one position, and each value on its own channel", () => {
  const messages = says({}, ...HANDBOOK, gga("123520"));
  assert.deepEqual(positions(messages), [
    {
      time: "1994-03-23T12:35:19.000Z",
      latitude: 48.1173,
      longitude: 11.5166667,
      altitude: 545.4,
      speed: 11.524,
      course: 84.4,
      fix: "3d",
      quality: 1,
      satellites: 8,
      hdop: 1.3,
    },
  ]);
  assert.deepEqual(messages.slice(1), [
    "time=1994-03-23T12:35:19.000Z",
    "latitude=48.1173",
    "longitude=11.5166667",
    "altitude=545.4",
    "speed=11.524",
    "course=84.4",
    "fix=3d",
    "quality=1",
    "satellites=8",
    "hdop=1.3",
  ]);
});

test("tells a moment with the sentence that was the last one of the moment before", () => {
  const reader = codec();
  const after = (line: string) => positions(told(reader.decode(Buffer.from(`${line}\r\n`)))).length;
  assert.deepEqual([gga("120000"), rmc("120000")].map(after), [0, 0]);
  assert.deepEqual([gga("120001"), rmc("120001")].map(after), [1, 1]);
  assert.deepEqual([gga("120002"), rmc("120002")].map(after), [0, 1]);
  // The last one is missing once: the next moment tells it, and waits for its own.
  assert.deepEqual([gga("120003"), gga("120004"), rmc("120004")].map(after), [0, 1, 1]);
  // It is missing twice: it is waited for no longer.
  const without = [gga("120005"), gga("120006"), gga("120007"), gga("120008")];
  assert.deepEqual(without.map(after), [0, 1, 2, 1]);
});

test("never tells a moment's values together with another's", () => {
  const messages = says({}, rmc("120000"), gga("120001"), next("120002"));
  const [first, second] = positions(messages);
  assert.deepEqual([first.speed, first.altitude], [11.524, undefined]);
  assert.deepEqual([second.speed, second.altitude], [undefined, 545.4]);
});

test("tells no place without a fix, whatever other sentences go on with", () => {
  const none = gga("120000", "4807.038,N,01131.000,E,0,00,,,M,,M,,");
  const cases = [
    [none, rmc("120000"), next("120001")],
    [rmc("120000"), none, next("120001")],
    [rmc("120000", "", "V"), next("120001")],
    [sentence("GNGGA,120000,,,,,0,00,99.99,,,,,,"), next("120001")],
  ];
  for (const lines of cases) {
    const messages = says({}, ...lines);
    assert.deepEqual(on("fix", messages), ["none"]);
    assert.deepEqual(on("latitude", messages), []);
    assert.deepEqual(positions(messages), []);
  }
});

test("knows the day after midnight, before the receiver has said it", () => {
  const messages = says({}, rmc("235959.50", "311299"), gga("000000.25"), next("000001"));
  assert.deepEqual(on("time", messages), ["1999-12-31T23:59:59.500Z", "2000-01-01T00:00:00.250Z"]);
});

test("tells no time before the receiver has said the day", () => {
  const messages = says({}, gga("120000"), next("120001"));
  assert.deepEqual(on("time", messages), []);
  assert.equal(positions(messages).length, 1);
});

test("reads south and west as negative, and takes any talker's word", () => {
  const line = sentence("GNGLL,4916.45,S,12311.12,W,225444,A,A");
  const [position] = positions(says({}, line, gga("225445")));
  assert.deepEqual([position.latitude, position.longitude], [-49.2741667, -123.1853333]);
});

test("counts the satellites in view of all systems, each once", () => {
  const lines = [
    gga("120000"),
    sentence("GPGSV,2,1,08,01,40,083,46,1"),
    sentence("GPGSV,1,1,05,01,40,083,46,6"),
    sentence("GLGSV,1,1,03,65,40,083,46,1"),
    gga("120001"),
    gga("120002"),
  ];
  assert.deepEqual(on("satellites_in_view", says({}, ...lines)), ["11", "11"]);
});

test("passes sentences on that it does not read, or all, or none", () => {
  const ais = "!AIVDM,1,1,,B,177KQJ5000G?tO`K>RA1wUbN0TKH,0*5C";
  const own = sentence("PMTK001,220,3");
  const wind = sentence("WIMWV,214.8,R,0.1,K,A");
  // Proprietary ones and encapsulated ones, whatever their address ends with.
  const alike = [sentence("PXGGA,1"), gga("120000").replace("$", "!")];
  const lines = [ais, own, wind, ...alike, gga("120000")];
  const others = [
    `sentence/AIVDM=${ais}`,
    `sentence/PMTK001=${own}`,
    `sentence/WIMWV=${wind}`,
    `sentence/PXGGA=${alike[0]}`,
    `sentence/GPGGA=${alike[1]}`,
  ];
  assert.deepEqual(says({ sentences: "others" }, ...lines), others);
  assert.deepEqual(says({ sentences: "all" }, ...lines), [
    ...others,
    `sentence/GPGGA=${gga("120000")}`,
  ]);
  assert.deepEqual(says({ sentences: "none" }, ...lines), []);
});

test("takes no sentence with a wrong checksum, and none without one unless it may lack it", () => {
  const body = "PMTK001,220,3";
  const sentences = "others";
  assert.deepEqual(says({ sentences }, `$${body}*31`), ["! a sentence's checksum is wrong"]);
  assert.deepEqual(says({ sentences }, `$${body}`), ["! a sentence has no checksum"]);
  const optional = { sentences, checksum: "optional" } as const;
  assert.deepEqual(says(optional, `$${body}`), [`sentence/PMTK001=$${body}`]);
  assert.deepEqual(says(optional, `$${body}*31`), ["! a sentence's checksum is wrong"]);
  assert.deepEqual(says(optional, `$${body}*3`), ["! a sentence has no checksum"]);
});

test("finds a sentence behind a tag block, or behind noise that ate a line end", () => {
  const own = sentence("PMTK001,220,3");
  for (const before of ["\\g:1-2-73874*A1\\", "$GPGGA,1234", "\xb5b\x01\x02"]) {
    assert.deepEqual(says({ sentences: "others" }, before + own), [`sentence/PMTK001=${own}`]);
  }
});

test("counts what is no sentence, or is not as it is laid out", () => {
  const bad: Readonly<Record<string, string>> = {
    hello: "a line is no sentence",
    [sentence("gpgga,1")]: "a sentence has no address",
    [sentence("GP/#+,1")]: "a sentence has no address",
    [sentence("PXXX,\u00e9")]: "a sentence has characters outside of ASCII",
    [gga("246060")]: "a GGA sentence is not as laid out",
    [gga("120000", "9107.038,N,01131.000,E,1,08,0.9,545.4,M")]: "a GGA sentence is not as laid out",
    [gga("120000", "4867.038,N,01131.000,E,1,08,0.9,545.4,M")]: "a GGA sentence is not as laid out",
    [gga("120000", "4807.038,X,01131.000,E,1,08,0.9,545.4,M")]: "a GGA sentence is not as laid out",
    [gga("120000", "4807.038,N,01131.000,E,1,1e9,0.9,545.4,M")]:
      "a GGA sentence is not as laid out",
    [rmc("120000", "310299")]: "a RMC sentence is not as laid out",
    ["x".repeat(1_100)]: "a line is longer than 1024 bytes",
  };
  for (const [line, reason] of Object.entries(bad)) {
    const bytes = Buffer.from(`${line}\r\n`, "latin1");
    assert.deepEqual(told(codec().decode(bytes)), [`! ${reason}`], line);
  }
});

test("takes a leap second for the end of the one before", () => {
  const messages = says({}, rmc("235960", "311216"), next("000000"));
  assert.deepEqual(on("time", messages), ["2016-12-31T23:59:59.000Z"]);
});

test("says a command as one sentence, with the checksum that it lacks", () => {
  const say = (payload: string, channel?: string) => {
    const encoded = codec().encode({ channel, payload: Buffer.from(payload) });
    return encoded.kind === "bytes" ? Buffer.from(encoded.bytes).toString() : encoded.reason;
  };
  for (const given of ["PMTK220,1000", "$PMTK220,1000", "$PMTK220,1000*1F", "$PMTK220,1000*1f"]) {
    assert.equal(say(given), "$PMTK220,1000*1F\r\n");
  }
  assert.equal(say("$PMTK220,1000*1E"), "the sentence's checksum is wrong");
  assert.equal(say("PMTK220", "rate"), "a sentence goes to set, whole");
  const no = "that is no sentence, as $PMTK220,1000";
  for (const given of ["", "$", "a,b", "PMTK220,1\r\n$PMTK251,9", "PMTK220,$1", "PMTK220,\u00e9"]) {
    assert.equal(say(given), no, given);
  }
  assert.equal(say(`PMTK,${"1".repeat(1_024)}`), "the sentence is longer than 1024 bytes");
});

test("gives the same messages wherever the bytes are cut, and takes any bytes", () => {
  const fieldOf = fc.oneof(
    fc.constantFrom("", "A", "V", "N", "E", "0", "1", "120000", "4807.038", "01131.000", "230394"),
    fc.string({ maxLength: 5 }),
  );
  const lineOf = fc.oneof(
    fc
      .tuple(
        fc.constantFrom("GPGGA", "GNRMC", "GPGLL", "GPVTG", "GPGSA", "GLGSV", "GPZDA", "PMTK001"),
        fc.array(fieldOf, { maxLength: 18 }),
      )
      .map(([address, fields]) => sentence([address, ...fields].join(","))),
    fc.constantFrom(gga("120000"), rmc("120000"), gga("120001"), rmc("120001")),
    fc.string({ maxLength: 60, unit: "binary" }),
  );
  fc.assert(
    fc.property(fc.array(lineOf, { maxLength: 12 }), fc.array(fc.nat(600)), (lines, cuts) => {
      const bytes = Buffer.from(lines.map((line) => `${line}\r\n`).join(""), "latin1");
      const whole = told(codec({ sentences: "all" }).decode(bytes));
      const places = [0, ...cuts.filter((cut) => cut < bytes.length), bytes.length].sort(
        (a, b) => a - b,
      );
      const reader = codec({ sentences: "all" });
      const cut = places.flatMap((place, index) =>
        told(reader.decode(bytes.subarray(places[index - 1] ?? 0, place))),
      );
      assert.deepEqual(cut, whole);
      for (const it of whole)
        assert.match(it, /^(! |sentence\/[A-Z0-9]+=|[a-z_]+=(?!NaN|undefined))/);
    }),
    RUNS,
  );
});
