// passwords.test: what a password's hash and its line promise.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  formatHash,
  hashPassword,
  type PasswordHash,
  parseHash,
  verifyPassword,
} from "#runtime/passwords";

test("proves the password that was hashed, and no other", async () => {
  const hash = await hashPassword("päss");
  assert.ok(await verifyPassword("päss", hash));
  assert.ok(await verifyPassword(Buffer.from("päss"), hash));
  for (const wrong of ["pass", "päss ", "", "PÄSS"])
    assert.ok(!(await verifyPassword(wrong, hash)));
});

test("never hashes to the same line twice", async () => {
  const [one, other] = [await hashPassword("x"), await hashPassword("x")];
  assert.notDeepEqual(one.salt, other.salt);
  assert.notDeepEqual(one.hash, other.hash);
});

test("refuses a password that is empty or longer than MQTT can carry", async () => {
  for (const password of ["", new Uint8Array(65_536)]) {
    await assert.rejects(hashPassword(password), { code: "USAGE", message: /1 to 65535 bytes/ });
  }
});

test("proves nothing for nobody, and takes as long for it", async () => {
  const hash = await hashPassword("x");
  const shortestMs = async (known: PasswordHash | undefined) => {
    const times: number[] = [];
    for (let run = 0; run < 6; run += 1) {
      const began = performance.now();
      assert.equal(await verifyPassword("wrong", known), false);
      times.push(performance.now() - began);
    }
    return Math.min(...times);
  };
  const [somebody, nobody] = [await shortestMs(hash), await shortestMs(undefined)];
  assert.ok(nobody > somebody / 2 && nobody < somebody * 2, `${nobody} ms, ${somebody} ms`);
});

test("reads back the line that it wrote", async () => {
  const hash = await hashPassword("x");
  assert.match(formatHash(hash), /^scrypt:16384:8:1:[A-Za-z0-9+/]{22}==:[A-Za-z0-9+/]{43}=$/);
  assert.deepEqual(parseHash(formatHash(hash)), hash);
});

test("says what is wrong with a line, and quotes nothing of it", async () => {
  const salt = "c2VjcmV0c2VjcmV0";
  const hash = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0";
  const cases: Record<string, RegExp> = {
    "": /scheme is not known/,
    "argon2:1:2:3:x:y": /scheme is not known/,
    [`scrypt:16384:8:1:${salt}`]: /field is missing/,
    [`scrypt:16384:8:1:${salt}:${hash}:x`]: /too many/,
    [`scrypt:16383:8:1:${salt}:${hash}`]: /cost is out of range/,
    [`scrypt:512:8:1:${salt}:${hash}`]: /cost is out of range/,
    [`scrypt:1048576:8:1:${salt}:${hash}`]: /cost is out of range/,
    [`scrypt:16384:0:1:${salt}:${hash}`]: /cost is out of range/,
    [`scrypt:16384:8:17:${salt}:${hash}`]: /cost is out of range/,
    [`scrypt:x:8:1:${salt}:${hash}`]: /cost is out of range/,
    [`scrypt:16384:8:1:c2Vj!:${hash}`]: /not base64/,
    [`scrypt:16384:8:1:c2Vj:${hash}`]: /too short/,
    [`scrypt:16384:8:1:${salt}:c2Vj`]: /too short/,
  };
  for (const [line, message] of Object.entries(cases)) {
    const said = parseHash(line);
    assert.ok(typeof said === "string", line);
    assert.match(said, message);
    assert.doesNotMatch(said, /c2Vj|secret/);
  }
});

test("answers any text with a hash that can be verified or with what is wrong", () => {
  const field = fc.constantFrom(
    "scrypt",
    "16384",
    "8",
    "1",
    "1024",
    "c2VjcmV0c2VjcmV0c2VjcmV0",
    "",
    "-1",
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.array(field).map((it) => it.join(":")),
      ),
      (text) => {
        const read = parseHash(text);
        if (typeof read === "object") assert.equal(formatHash(read), text);
      },
    ),
    { seed: 20_260_205, numRuns: 2_000 },
  );
});
