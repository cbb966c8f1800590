// proxy-protocol.test: the parser against headers written down from the specification, against an
// encoder of its own, and against arbitrary bytes.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SluiceError } from "#contract/errors";
import {
  PROXY_HEADER_BYTES_MAX,
  type ProxyHeader,
  parseProxyHeader,
} from "../../../broker/mqtt/proxy-protocol.ts";
import { type HeaderParts, proxyHeader, sslTlv, tlv } from "../../support/proxy-header.ts";

const SEED = 20_262;
const INVALID = { name: "SluiceError", code: "PROXY_INVALID" };
const SIGNATURE = "0d0a0d0a000d0a515549540a";

function parsed(bytes: Buffer): ProxyHeader {
  const answer = parseProxyHeader(bytes);
  assert.ok("header" in answer, "the header is whole");
  assert.equal(answer.bytes, bytes.length);
  return answer.header;
}

function hex(...parts: string[]): Buffer {
  return Buffer.from([SIGNATURE, ...parts].join("").replaceAll(" ", ""), "hex");
}

test("reads TCP over IPv4", () => {
  const bytes = hex("21 11 000c", "c0000201 cb007107", "dc04 075b");
  assert.deepEqual(parsed(bytes), {
    command: "PROXY",
    source: { ip: "192.0.2.1", port: 56_324 },
  });
});

test("reads TCP over IPv6", () => {
  const source = "20010db8000000000000000000000001";
  const bytes = hex("21 21 0024", source, "20010db80000000000000000000000ff", "0001 ffff");
  assert.deepEqual(parsed(bytes), { command: "PROXY", source: { ip: "2001:db8::1", port: 1 } });
});

test("tells where the header ends and leaves what follows", () => {
  const header = hex("21 11 000c", "c0000201 cb007107", "dc04 075b");
  const answer = parseProxyHeader(Buffer.concat([header, Buffer.from("100e", "hex")]));
  assert.ok("bytes" in answer);
  assert.equal(answer.bytes, header.length);
});

test("writes every IPv6 address in the one text of RFC 5952", () => {
  const expected: Record<string, string> = {
    "00000000000000000000000000000000": "::",
    "00000000000000000000000000000001": "::1",
    fe800000000000000000000000000000: "fe80::",
    "20010db8000000000001000000000001": "2001:db8::1:0:0:1",
    "20010db8000100010001000100010000": "2001:db8:1:1:1:1:1:0",
    "20010DB8ABCD00000000000000000001": "2001:db8:abcd::1",
    "00000000000000000000ffffc0000201": "::ffff:192.0.2.1",
  };
  for (const [source, ip] of Object.entries(expected)) {
    const bytes = hex("21 21 0024", source, "0".repeat(32), "0001 0002");
    assert.equal(parsed(bytes).source?.ip, ip);
  }
});

test("writes arbitrary IPv6 addresses as the URL standard does", () => {
  fc.assert(
    // Mostly zeros, so that runs of them come in all places.
    fc.property(
      fc.array(fc.constantFrom(0, 0, 1, 0xabcd), { minLength: 8, maxLength: 8 }),
      (groups) => {
        const source = groups.map((group) => group.toString(16).padStart(4, "0")).join("");
        const bytes = hex("21 21 0024", source, "0".repeat(32), "0001 0002");
        const url = new URL(`http://[${groups.map((group) => group.toString(16)).join(":")}]/`);
        assert.equal(`[${parsed(bytes).source?.ip}]`, url.hostname);
      },
    ),
    { seed: SEED, numRuns: 300 },
  );
});

test("takes LOCAL for the balancer's own, whatever else the header holds", () => {
  assert.deepEqual(parsed(hex("20 00 0000")), { command: "LOCAL" });
  assert.deepEqual(parsed(hex("20 11 000c", "c0000201 cb007107", "dc04 075b")), {
    command: "LOCAL",
  });
  assert.deepEqual(parsed(hex("20 ff 0003", "ffffff")), { command: "LOCAL" });
});

test("knows no source behind UNSPEC and behind a unix socket", () => {
  assert.deepEqual(parsed(hex("21 00 0004", "01020304")), { command: "PROXY" });
  assert.deepEqual(parsed(hex("21 31 00d8", "2f".repeat(216))), { command: "PROXY" });
});

test("skips type-length-values that it does not know", () => {
  const tlvs = Buffer.concat([tlv(0x01, Buffer.from("mqtt")), tlv(0x04), tlv(0xe5, "x")]);
  assert.deepEqual(parsed(proxyHeader({ tlvs })), {
    command: "PROXY",
    source: { ip: "192.0.2.1", port: 50_000 },
  });
});

test("takes the certificate's name only when the balancer verified a certificate", () => {
  const nameOf = (client: number, verify: number, name = "gw-001") =>
    parsed(proxyHeader({ tlvs: sslTlv({ client, verify, name }) })).certificateName;
  assert.equal(nameOf(0x07, 0), "gw-001");
  assert.equal(nameOf(0x03, 0), "gw-001");
  // Shown once in this TLS session, which this connection resumes.
  assert.equal(nameOf(0x05, 0), "gw-001");
  assert.equal(nameOf(0x01, 0), undefined, "no certificate");
  assert.equal(nameOf(0x07, 1), undefined, "not verified");
  assert.equal(nameOf(0x07, 0x01000000), undefined, "not verified, high byte");
  assert.equal(nameOf(0x07, 0, ""), undefined, "an empty name");
});

test("tells that the balancer speaks of TLS, with a certificate or without", () => {
  assert.equal(parsed(proxyHeader({ tlvs: sslTlv({ client: 1, verify: 1 }) })).tellsTls, true);
  assert.equal(parsed(proxyHeader({})).tellsTls, undefined);
});

test("refuses a name that is not UTF-8, and two names", () => {
  const latin = tlv(0x22, Buffer.from([0x67, 0xfc]));
  const twice = Buffer.concat([tlv(0x22, "a"), tlv(0x22, "b")]);
  const start = Buffer.from([0x07, 0, 0, 0, 0]);
  for (const inner of [latin, twice]) {
    const tlvs = tlv(0x20, Buffer.concat([start, inner]));
    assert.throws(() => parseProxyHeader(proxyHeader({ tlvs })), INVALID);
  }
  const tlvs = Buffer.concat([tlv(0x20, start), tlv(0x20, start)]);
  assert.throws(() => parseProxyHeader(proxyHeader({ tlvs })), INVALID);
});

test("refuses truncated type-length-values, outer and inner", () => {
  const start = Buffer.from([0x07, 0, 0, 0, 0]);
  const whole = tlv(0x22, "gw-001");
  const truncated = [
    whole.subarray(0, 1),
    whole.subarray(0, 2),
    whole.subarray(0, whole.length - 1),
    tlv(0x20, start.subarray(0, 4)),
    tlv(0x20, Buffer.concat([start, whole.subarray(0, 2)])),
    tlv(0x20, Buffer.concat([start, whole.subarray(0, whole.length - 1)])),
  ];
  for (const tlvs of truncated) {
    assert.throws(() => parseProxyHeader(proxyHeader({ tlvs })), INVALID, tlvs.toString("hex"));
  }
});

test("refuses a header that is shorter than its addresses", () => {
  assert.throws(() => parseProxyHeader(hex("21 11 000b", "00".repeat(11))), INVALID);
  assert.throws(() => parseProxyHeader(hex("21 21 0023", "00".repeat(35))), INVALID);
  assert.throws(() => parseProxyHeader(hex("21 31 00d7", "00".repeat(215))), INVALID);
});

test("refuses other versions, commands, families and transports", () => {
  for (const start of ["11", "31", "22", "2f", "2113", "2141", "21f1", "211f"]) {
    assert.throws(() => parseProxyHeader(hex(start)), INVALID, start);
  }
});

test("refuses a header over the limit as soon as it tells its length", () => {
  const most = PROXY_HEADER_BYTES_MAX - 16;
  const start = (length: number) => hex("21 11", length.toString(16).padStart(4, "0"));
  assert.deepEqual(parseProxyHeader(start(most)), { needs: PROXY_HEADER_BYTES_MAX });
  assert.throws(() => parseProxyHeader(start(most + 1)), INVALID);
});

test("fails at the first byte that a PROXY v2 header does not have there", () => {
  const header = hex("21 11 000c");
  for (let length = 0; length <= header.length; length += 1) {
    assert.ok("needs" in parseProxyHeader(header.subarray(0, length)));
  }
  for (let length = 1; length <= 12; length += 1) {
    const wrong = Buffer.from(header.subarray(0, length));
    wrong[length - 1] = 0x7f;
    assert.throws(() => parseProxyHeader(wrong), INVALID, `byte ${length}`);
  }
  assert.throws(() => parseProxyHeader(Buffer.from("P")), INVALID, "version 1");
  assert.throws(() => parseProxyHeader(Buffer.from([0x10])), INVALID, "CONNECT");
  assert.throws(() => parseProxyHeader(Buffer.from([0x16])), INVALID, "TLS");
});

const headerParts: fc.Arbitrary<HeaderParts> = fc.record({
  ip: fc.oneof(
    fc.ipV4(),
    fc.ipV6().map((ip) => new URL(`http://[${ip}]/`).hostname.slice(1, -1)),
  ),
  port: fc.nat(65_535),
  tlvs: fc.uint8Array({ maxLength: 200 }).map((value) => tlv(0xe0, Buffer.from(value))),
});

test("reads back what an encoder writes, and asks for the rest of every part of it", () => {
  fc.assert(
    fc.property(
      headerParts,
      fc.option(fc.string({ unit: "grapheme", minLength: 1, maxLength: 64 })),
      fc.nat(),
      (parts, name, cut) => {
        const told = name === null ? Buffer.alloc(0) : sslTlv({ client: 7, verify: 0, name });
        const unknown = parts.tlvs ?? Buffer.alloc(0);
        const bytes = proxyHeader({ ...parts, tlvs: Buffer.concat([unknown, told]) });
        const header = parsed(bytes);
        // The URL standard writes mapped addresses in hexadecimal; the parser's text is tested above.
        if (!parts.ip?.startsWith("::ffff:")) assert.equal(header.source?.ip, parts.ip);
        assert.equal(header.source?.port, parts.port);
        assert.equal(header.certificateName, name ?? undefined);
        const answer = parseProxyHeader(bytes.subarray(0, cut % bytes.length));
        assert.ok("needs" in answer && answer.needs > cut % bytes.length);
        assert.ok(answer.needs <= bytes.length);
      },
    ),
    { seed: SEED, numRuns: 500 },
  );
});

test("throws nothing but PROXY_INVALID on arbitrary bytes, and never reads past their end", () => {
  const hostile = fc.oneof(
    fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from(bytes)),
    fc
      .tuple(fc.uint8Array({ maxLength: 300 }), fc.constantFrom("2111", "2121", "2131", "2100"))
      .map(([body, start]) => {
        const length = body.length.toString(16).padStart(4, "0");
        return hex(start, length, Buffer.from(body).toString("hex"));
      }),
    fc.uint8Array({ maxLength: 60 }).map((inner) => {
      const value = Buffer.concat([Buffer.from([7, 0, 0, 0, 0]), inner]);
      return proxyHeader({ tlvs: tlv(0x20, value) });
    }),
  );
  fc.assert(
    fc.property(hostile, (bytes) => {
      // Behind the view lies more memory, which the parser must not see.
      const memory = Buffer.concat([bytes, Buffer.alloc(64, 0xaa)]);
      const other = Buffer.concat([bytes, Buffer.alloc(64, 0x55)]);
      assert.deepEqual(
        outcomeOf(memory.subarray(0, bytes.length)),
        outcomeOf(other.subarray(0, bytes.length)),
      );
    }),
    { seed: SEED, numRuns: 2_000 },
  );
});

function outcomeOf(bytes: Buffer): unknown {
  try {
    const answer = parseProxyHeader(bytes);
    if ("bytes" in answer) assert.ok(answer.bytes <= bytes.length);
    else assert.ok(answer.needs > bytes.length);
    return answer;
  } catch (fault) {
    if (!(fault instanceof SluiceError) || fault.code !== "PROXY_INVALID") throw fault;
    return fault.message;
  }
}
