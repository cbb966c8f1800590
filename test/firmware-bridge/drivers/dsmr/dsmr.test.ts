// dsmr.test: what the codec of smart meters promises.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { About, Decoded } from "../../../../firmware-bridge/driver.ts";
import { DsmrCodec, type DsmrSettings } from "../../../../firmware-bridge/drivers/dsmr/dsmr.ts";
import { CHECKSUMS } from "../../../../firmware-bridge/drivers/framing/checksums.ts";

const RUNS = { seed: 20_260_104, numRuns: 300 } as const;

function codec(some: Partial<DsmrSettings> = {}): DsmrCodec {
  return new DsmrCodec({ checksum: "optional", others: false, ...some });
}

function told(decoded: readonly Decoded[]): string[] {
  return decoded.flatMap((it) => {
    if (it.kind === "about") return [];
    if (it.kind === "fault") return `! ${it.reason}`;
    return `${it.message.channel}=${Buffer.from(it.message.payload)}`;
  });
}

const says = (some: Partial<DsmrSettings>, ...texts: string[]) => {
  const meter = codec(some);
  return texts.flatMap((text) => told(meter.decode(Buffer.from(text, "latin1"))));
};

/** A telegram of these objects, with its CRC. */
function telegram(...objects: string[]): string {
  const text = ["/ISk5\\2MT382-1000", "", ...objects, "!"].join("\r\n");
  const sum = CHECKSUMS["crc16-arc"].of(Buffer.from(text, "latin1"));
  return `${text}${sum.toString(16).toUpperCase().padStart(4, "0")}\r\n`;
}

const MESSAGE = "303132333435363738393A3B3C3D3E3F".repeat(5);

/**
 * The example of the P1 companion standard 5.0.2, chapter 6.13. It prints EF2F for a checksum, which
 * is not that of the text; E47C is.
 */
const DSMR_5 = `/ISk5\\2MT382-1000

1-3:0.2.8(50)
0-0:1.0.0(101209113020W)
0-0:96.1.1(4B384547303034303436333935353037)
1-0:1.8.1(123456.789*kWh)
1-0:1.8.2(123456.789*kWh)
1-0:2.8.1(123456.789*kWh)
1-0:2.8.2(123456.789*kWh)
0-0:96.14.0(0002)
1-0:1.7.0(01.193*kW)
1-0:2.7.0(00.000*kW)
0-0:96.7.21(00004)
0-0:96.7.9(00002)
1-0:99.97.0(2)(0-0:96.7.19)(101208152415W)(0000000240*s)(101208151004W)(0000000301*s)
1-0:32.32.0(00002)
1-0:52.32.0(00001)
1-0:72.32.0(00000)
1-0:32.36.0(00000)
1-0:52.36.0(00003)
1-0:72.36.0(00000)
0-0:96.13.0(${MESSAGE})
1-0:32.7.0(220.1*V)
1-0:52.7.0(220.2*V)
1-0:72.7.0(220.3*V)
1-0:31.7.0(001*A)
1-0:51.7.0(002*A)
1-0:71.7.0(003*A)
1-0:21.7.0(01.111*kW)
1-0:41.7.0(02.222*kW)
1-0:61.7.0(03.333*kW)
1-0:22.7.0(04.444*kW)
1-0:42.7.0(05.555*kW)
1-0:62.7.0(06.666*kW)
0-1:24.1.0(003)
0-1:96.1.0(3232323241424344313233343536373839)
0-1:24.2.1(101209112500W)(12785.123*m3)
!E47C
`.replaceAll("\n", "\r\n");

const READINGS_5 = [
  "version=50",
  "time=2010-12-09T11:30:20+01:00",
  "equipment_id=K8EG004046395507",
  "energy_delivered_tariff1=123456.789",
  "energy_delivered_tariff2=123456.789",
  "energy_returned_tariff1=123456.789",
  "energy_returned_tariff2=123456.789",
  "tariff=2",
  "power_delivered=1.193",
  "power_returned=0.000",
  "power_failures=4",
  "long_power_failures=2",
  "voltage_sags_l1=2",
  "voltage_sags_l2=1",
  "voltage_sags_l3=0",
  "voltage_swells_l1=0",
  "voltage_swells_l2=3",
  "voltage_swells_l3=0",
  `message=${"0123456789:;<=>?".repeat(5)}`,
  "voltage_l1=220.1",
  "voltage_l2=220.2",
  "voltage_l3=220.3",
  "current_l1=1",
  "current_l2=2",
  "current_l3=3",
  "power_delivered_l1=1.111",
  "power_delivered_l2=2.222",
  "power_delivered_l3=3.333",
  "power_returned_l1=4.444",
  "power_returned_l2=5.555",
  "power_returned_l3=6.666",
  "gas_id=2222ABCD123456789",
  "gas=12785.123",
  "gas_time=2010-12-09T11:25:00+01:00",
];

test("reads the example of DSMR 5.0.2 as the standard explains it", () => {
  assert.deepEqual(says({}, DSMR_5), READINGS_5);
  assert.deepEqual(says({ checksum: "required" }, DSMR_5), READINGS_5);
});

test("takes no telegram with the checksum of another text", () => {
  assert.deepEqual(says({}, DSMR_5.replace("E47C", "EF2F")), ["! a telegram's checksum is wrong"]);
});

test("reads telegrams of DSMR 3, which have no checksum, and gas on two lines", () => {
  const text = `/ISk5\\2MT382-1000

0-0:96.1.1(4B384547303034303436333935353037)
1-0:1.8.1(12345.678*kWh)
0-0:17.0.0(016*A)
0-0:96.13.1()
0-1:24.1.0(03)
0-1:96.1.0(3232323241424344313233343536373839)
0-1:24.3.0(090212160000)(00)(60)(1)(0-1:24.2.1)(m3)
(00001.001)
0-1:24.4.0(1)
!
`.replaceAll("\n", "\r\n");
  assert.deepEqual(says({}, text), [
    "! an object is not as it must be",
    "equipment_id=K8EG004046395507",
    "energy_delivered_tariff1=12345.678",
    "message_code=",
    "gas_id=2222ABCD123456789",
    "gas=1.001",
    "gas_time=2009-02-12T16:00:00",
    "gas_valve=1",
  ]);
  assert.deepEqual(says({ checksum: "required" }, text), ["! a telegram has no checksum"]);
});

test("reads Belgium's telegrams: average, peak of the month, gas and water", () => {
  const text = telegram(
    "0-0:96.1.4(50217)",
    "0-0:1.0.0(200512145552S)",
    "1-0:1.4.0(02.351*kW)",
    "1-0:1.6.0(200509134558S)(02.589*kW)",
    "1-0:31.7.0(002.12*A)",
    "0-1:24.1.0(003)",
    "0-1:96.1.1(37464C4F32313139303333373333)",
    "0-1:24.2.3(200512134558S)(00112.384*m3)",
    "0-2:24.1.0(007)",
    "0-2:24.2.1(200512134558S)(00872.234*m3)",
    "0-3:24.1.0(007)",
    "0-3:24.2.1(200512134558S)(00001.000*m3)",
  );
  assert.deepEqual(says({}, text), [
    "version=50217",
    "time=2020-05-12T14:55:52+02:00",
    "power_average=2.351",
    "power_peak_month=2.589",
    "power_peak_month_time=2020-05-09T13:45:58+02:00",
    "current_l1=2.12",
    "gas_id=7FLO2119033733",
    "gas=112.384",
    "gas_time=2020-05-12T13:45:58+02:00",
    "water=872.234",
    "water_time=2020-05-12T13:45:58+02:00",
    "water_3=1.000",
    "water_3_time=2020-05-12T13:45:58+02:00",
  ]);
});

test("gives objects that it does not know a channel by their code, where that is set", () => {
  const text = telegram("1-0:99.97.0(2)(0-0:96.7.19)", "0-4:24.2.1(200512134558S)(1*m3)");
  assert.deepEqual(says({}, text), []);
  assert.deepEqual(says({ others: true }, text), [
    "other/1-0:99.97.0=(2)(0-0:96.7.19)",
    "other/0-4:24.2.1=(200512134558S)(1*m3)",
  ]);
});

test("counts objects that are not as they must be, and tells all others", () => {
  const bad = [
    "1-0:1.7.0(01.193*W)",
    "1-0:1.7.0(01.193)",
    "1-0:1.7.0(1e3*kW)",
    "1-0:1.7.0()",
    "1-0:1.7.0",
    "1-0:99:97.0(2)",
    "0-0:1.0.0(101309113020W)",
    "0-0:1.0.0(100231113020W)",
    "0-0:96.1.1(4B3)",
    `1${"0".repeat(200)}-0:1.7.0(1)`,
  ];
  for (const object of bad) {
    const messages = says({ others: true }, telegram(object, "0-0:96.14.0(0002)"));
    assert.deepEqual(messages, ["! an object is not as it must be", "tariff=2"], object);
  }
});

test("takes no telegram of which one bit was turned over", () => {
  const bytes = Buffer.from(DSMR_5, "latin1");
  for (let at = 0; at < bytes.length - 2; at += 1) {
    const wrong = Buffer.from(bytes);
    wrong[at] = (wrong[at] ?? 0) ^ (1 << (at % 7));
    const messages = says({ checksum: "required" }, wrong.toString("latin1"), telegram());
    // A digit of the checksum may become one of the other case.
    if (messages.length === READINGS_5.length) assert.ok(at > bytes.lastIndexOf("!"), `${at}`);
    else assert.ok(messages.length > 0 && messages.every((it) => it.startsWith("! ")), `${at}`);
  }
});

test("finds the next telegram after one that was cut off, too long or noise", () => {
  const whole = telegram("0-0:96.14.0(0002)");
  const before = {
    [whole.slice(20)]: "! bytes outside of a telegram",
    [whole.slice(0, 30)]: "! a telegram's checksum is wrong",
    [`${whole.slice(0, 30)}\r\n`]: "! a telegram has no end",
    [`/${"x".repeat(9_000)}`]: "! a telegram is longer than 8192 bytes",
  };
  for (const [noise, reason] of Object.entries(before)) {
    const messages = says({}, noise + whole, whole);
    assert.equal(messages[0], reason);
    assert.equal(messages.at(-1), "tariff=2");
  }
  assert.deepEqual(says({}, "\r\n", whole, "\r\n", whole), ["tariff=2", "tariff=2"]);
});

test("tells noise as often as it would fill a telegram", () => {
  assert.deepEqual(says({}, "x".repeat(20_000)), Array(2).fill("! bytes outside of a telegram"));
});

test("tells which channels the meter has, with their units, when it learns of them", () => {
  const abouts = (decoded: readonly Decoded[]): About[] =>
    decoded.flatMap((it) => (it.kind === "about" ? [it.about] : []));
  const meter = codec();
  const first = telegram("0-0:96.14.0(0002)", "1-0:1.7.0(01.193*kW)");
  const model = "ISk5\\2MT382-1000";
  const tariff = { name: "tariff", kind: "number" };
  const power = { name: "power_delivered", kind: "number", unit: "kW" };
  assert.deepEqual(abouts(meter.decode(Buffer.from(first))), [
    { model, channels: [tariff, power] },
  ]);
  assert.deepEqual(abouts(meter.decode(Buffer.from(first))), []);
  const more = telegram("0-1:24.1.0(003)", "0-1:24.2.1(200512134558S)(1*m3)");
  const gas = { name: "gas", kind: "number", unit: "m³" };
  const time = { name: "gas_time", kind: "text" };
  assert.deepEqual(abouts(meter.decode(Buffer.from(more))), [
    { model, channels: [tariff, power, gas, time] },
  ]);
});

test("takes no commands", () => {
  assert.deepEqual(codec().encode(), { kind: "refused", reason: "a P1 port takes no commands" });
});

test("gives the same messages wherever the bytes are cut, and takes any bytes", () => {
  const contentOf = fc.oneof(
    fc.constantFrom("", "003", "01.193*kW", "101209113020W", "m3", "4B38", "12785.123*m3"),
    fc.string({ maxLength: 8 }),
  );
  const codeOf = fc.constantFrom(
    "1-0:1.7.0",
    "0-0:1.0.0",
    "0-0:96.13.0",
    "0-1:24.1.0",
    "0-1:24.2.1",
    "0-1:24.3.0",
    "0-2:96.1.0",
    "1-0:99.97.0",
  );
  const objectOf = fc
    .tuple(codeOf, fc.array(contentOf, { maxLength: 8 }))
    .map(([code, values]) => code + values.map((value) => `(${value})`).join(""));
  const partOf = fc.oneof(
    fc.array(objectOf, { maxLength: 6 }).map((objects) => telegram(...objects)),
    fc.constant(DSMR_5),
    fc.string({ maxLength: 60, unit: "binary" }),
    fc.constantFrom("/", "!", "\r\n", "!\r\n", "/x\r\n"),
  );
  fc.assert(
    fc.property(fc.array(partOf, { maxLength: 6 }), fc.array(fc.nat(3_000)), (parts, cuts) => {
      const bytes = Buffer.from(parts.join(""), "latin1");
      const whole = told(codec({ others: true }).decode(bytes));
      const places = [0, ...cuts.filter((cut) => cut < bytes.length), bytes.length].sort(
        (a, b) => a - b,
      );
      const meter = codec({ others: true });
      const cut = places.flatMap((place, index) =>
        told(meter.decode(bytes.subarray(places[index - 1] ?? 0, place))),
      );
      assert.deepEqual(cut, whole);
      for (const it of whole) assert.match(it, /^(! |other\/[0-9.:-]+=|[a-z0-9_]+=)/);
    }),
    RUNS,
  );
});
