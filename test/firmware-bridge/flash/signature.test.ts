// signature.test: which images are taken for signed, by what openssl itself signs.
// Path: test. Touches: temporary folders; runs openssl.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { isSigned, readPublicKey } from "../../../firmware-bridge/flash/signature.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { IMAGE } from "./avrdude-output.ts";

/** As flash.md says that it is done. */
const KINDS = {
  ed25519: {
    key: ["genpkey", "-algorithm", "ed25519", "-out", "flash.key"],
    sign: [
      ...["pkeyutl", "-sign", "-rawin", "-inkey", "flash.key"],
      ...["-in", "image.hex", "-out", "image.hex.sig"],
    ],
  },
  ecdsa: {
    key: [
      ...["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
      ...["-out", "flash.key"],
    ],
    sign: ["dgst", "-sha256", "-sign", "flash.key", "-out", "image.hex.sig", "image.hex"],
  },
} as const;

function signed(t: TestContext, { key, sign }: (typeof KINDS)["ed25519" | "ecdsa"]) {
  const folder = temporaryFolder(t);
  const openssl = (args: readonly string[]) =>
    execFileSync("openssl", args, { cwd: folder, stdio: "pipe" });
  writeFileSync(join(folder, "image.hex"), IMAGE);
  openssl(key);
  openssl(["pkey", "-in", "flash.key", "-pubout", "-out", "flash.pub"]);
  openssl(sign);
  const base64 = openssl(["base64", "-in", "image.hex.sig"]);
  return {
    folder,
    key: readPublicKey(join(folder, "flash.pub")),
    signature: readFileSync(join(folder, "image.hex.sig")),
    base64,
  };
}

for (const [name, kind] of Object.entries(KINDS)) {
  test(`takes what openssl signed by ${name}, raw and in base64`, (t) => {
    const { key, signature, base64 } = signed(t, kind);
    assert.ok(isSigned(key, IMAGE, signature));
    assert.ok(isSigned(key, IMAGE, base64));
  });

  test(`refuses by ${name} an image, a signature or a key that is another by one bit`, (t) => {
    const { key, signature } = signed(t, kind);
    const other = signed(t, kind);
    const flipped = (bytes: Buffer, at: number) =>
      Buffer.from(bytes.map((byte, index) => (index === at ? byte ^ 1 : byte)));
    for (let at = 0; at < IMAGE.length; at++) {
      assert.ok(!isSigned(key, flipped(IMAGE, at), signature), `image, byte ${at}`);
    }
    for (let at = 0; at < signature.length; at++) {
      assert.ok(!isSigned(key, IMAGE, flipped(signature, at)), `signature, byte ${at}`);
    }
    assert.ok(!isSigned(other.key, IMAGE, signature));
    for (const none of ["", "x", "\n".repeat(100), signature.subarray(1)]) {
      assert.ok(!isSigned(key, IMAGE, Buffer.from(none)));
    }
  });
}

test("says which key file cannot be used, why, and what is wanted", (t) => {
  const { folder } = signed(t, KINDS.ed25519);
  const refusal = (file: string) => {
    try {
      readPublicKey(join(folder, file));
    } catch (fault) {
      return (fault as Error).message.replace(folder, "");
    }
    return assert.fail(`${file} was taken`);
  };
  const wanted = "; a PEM file with an Ed25519 or ECDSA public key is wanted";
  assert.equal(
    refusal("flash.key"),
    `public_key_file /flash.key cannot be used: it is no PUBLIC KEY${wanted}`,
  );
  assert.match(refusal("none"), /public_key_file \/none cannot be used: ENOENT.* is wanted$/);
  execFileSync("openssl", ["genpkey", "-algorithm", "RSA", "-out", "rsa.key"], {
    cwd: folder,
    stdio: "pipe",
  });
  execFileSync("openssl", ["pkey", "-in", "rsa.key", "-pubout", "-out", "rsa.pub"], {
    cwd: folder,
  });
  assert.match(refusal("rsa.pub"), /: its key is rsa; a PEM file/);
});
