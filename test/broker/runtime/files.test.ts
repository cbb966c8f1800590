// files.test: what reading certificates, keys and passwords promises.
// Path: test. Touches: a temporary folder, openssl.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import type { SluiceError } from "#contract/errors";
import { readSecret, readTlsFiles } from "#runtime/files";
import { temporaryFolder } from "./temporary-folder.ts";

const skip = spawnSync("openssl", ["version"]).error ? "openssl is not installed" : false;
let certificate = "";
let key = "";
let otherKey = "";

before(() => {
  if (skip) return;
  const make = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
  const made = spawnSync("openssl", [
    ...make,
    "-nodes",
    "-subj",
    "/CN=test",
    "-keyout",
    "-",
    "-out",
    "-",
  ]);
  const pem = made.stdout.toString();
  [key = "", certificate = ""] = pem.match(/-----BEGIN .+?-----END [A-Z ]+-----\n/gs) ?? [];
  const other = ["genpkey", "-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
  otherKey = spawnSync("openssl", other).stdout.toString();
});

function write(folder: string, name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

test("reads what the settings name, and nothing for what they do not", { skip }, (t) => {
  const folder = temporaryFolder(t);
  const cert_file = write(folder, "cert.pem", certificate);
  const key_file = write(folder, "key.pem", key);
  const material = readTlsFiles({ ca_file: cert_file, cert_file, key_file });
  assert.equal(material.ca?.toString(), certificate);
  assert.equal(material.cert?.toString(), certificate);
  assert.equal(material.key?.toString(), key);
  assert.deepEqual(readTlsFiles({}), {});
});

test("names the key of the settings, the file and the reason", { skip }, (t) => {
  const folder = temporaryFolder(t);
  const junk = write(folder, "junk.pem", "no certificate");
  const none = join(folder, "none.pem");
  const cert_file = write(folder, "cert.pem", certificate);
  const key_file = write(folder, "other.pem", otherKey);
  const cases: [object, string][] = [
    [{ ca_file: none }, `ca_file ${none} cannot be used: ENOENT`],
    [{ cert_file: junk }, `cert_file ${junk} cannot be used: it is not PEM (`],
    [{ key_file: junk }, `key_file ${junk} cannot be used: it is not PEM (`],
    [
      { cert_file, key_file },
      `key_file ${key_file} cannot be used: it is not the key of ${cert_file}`,
    ],
  ];
  for (const [files, message] of cases) {
    assert.throws(
      () => readTlsFiles(files),
      (fault: SluiceError) =>
        fault.code === "CERTIFICATE_UNREADABLE" &&
        fault.message.startsWith(message) &&
        !fault.message.includes("\n"),
    );
  }
});

test("shows nothing of a key that it cannot read", { skip }, (t) => {
  const broken = key.replace(/\n(.{10})/, "\nSECRETSECR");
  const key_file = write(temporaryFolder(t), "key.pem", broken);
  assert.throws(
    () => readTlsFiles({ key_file }),
    (fault: Error) => !/SECRET/.test(fault.message) && !fault.message.includes("\n"),
  );
});

test("reads the first line of a secret, whatever its line end", (t) => {
  const folder = temporaryFolder(t);
  const cases: Record<string, string> = {
    hunter2: "hunter2",
    "hunter2\n": "hunter2",
    "hunter2\r\nmore": "hunter2",
    " spaced ": " spaced ",
  };
  for (const [text, secret] of Object.entries(cases)) {
    assert.equal(readSecret(write(folder, "secret", text)), secret);
  }
});

test("refuses a secret that is empty or missing, and names its file", (t) => {
  const folder = temporaryFolder(t);
  for (const path of [
    write(folder, "empty", ""),
    write(folder, "blank", "\nx"),
    join(folder, "no"),
  ]) {
    assert.throws(() => readSecret(path), {
      code: "CERTIFICATE_UNREADABLE",
      message: RegExp(`^password_file ${path} cannot be used: `),
    });
  }
});
