// checksums.test: what the sums of lines, frames and telegrams promise.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  CHECKSUMS,
  type ChecksumName,
  nmeaChecksum,
} from "../../../../firmware-bridge/drivers/framing/checksums.ts";

/** Of "123456789"; the CRCs' are those of the catalogue of parametrised CRC algorithms. */
const CHECKS: Readonly<Record<ChecksumName, number>> = {
  xor: 0x31,
  sum8: 0xdd,
  "crc16-modbus": 0x4b37,
  "crc16-arc": 0xbb3d,
  "crc16-kermit": 0x2189,
  "crc16-ccitt": 0x29b1,
  "crc16-xmodem": 0x31c3,
  crc32: 0xcbf43926,
};

test("are those of the catalogue", () => {
  for (const [name, check] of Object.entries(CHECKS)) {
    const sum = CHECKSUMS[name as ChecksumName].of(Buffer.from("123456789"));
    assert.equal(sum.toString(16), check.toString(16), name);
  }
});

test("fit in the bytes that they have, whatever is summed up", () => {
  const bytes = Uint8Array.from({ length: 1_000 }, (_, index) => (index * 37) & 0xff);
  for (const [name, checksum] of Object.entries(CHECKSUMS)) {
    for (let length = 0; length < bytes.length; length += 1) {
      const sum = checksum.of(bytes.subarray(0, length));
      assert.ok(Number.isInteger(sum) && sum >= 0 && sum < 256 ** checksum.size, name);
    }
  }
});

test("of NMEA 0183 leave the sign out that begins the sentence", () => {
  const body = "GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,";
  for (const sentence of [`$${body}`, `!${body}`, body]) {
    assert.equal(nmeaChecksum(Buffer.from(sentence)), 0x47);
  }
});
