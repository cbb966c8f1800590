// files: reads the files that settings name: certificates, keys, passwords.
// Path: listeners, landing, cluster, devices. Touches: those files.

import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { reasonOf, SluiceError } from "#contract/errors";

export interface TlsFiles {
  readonly ca_file?: string | undefined;
  readonly cert_file?: string | undefined;
  readonly key_file?: string | undefined;
}

export interface TlsMaterial {
  ca?: Buffer;
  cert?: Buffer;
  key?: Buffer;
}

/** Reads and checks the PEM files; @throws SluiceError CERTIFICATE_UNREADABLE that names the file. */
export function readTlsFiles(files: TlsFiles): TlsMaterial {
  const material: TlsMaterial = {};
  if (files.ca_file)
    material.ca = readChecked("ca_file", files.ca_file, (pem) => new X509Certificate(pem));
  if (files.cert_file) {
    material.cert = readChecked("cert_file", files.cert_file, (pem) => new X509Certificate(pem));
  }
  if (files.key_file) material.key = readChecked("key_file", files.key_file, createPrivateKey);
  assertPair(files, material);
  return material;
}

/** The first line of a secret's file; @throws SluiceError CERTIFICATE_UNREADABLE. */
export function readSecret(path: string): string {
  const [line = ""] = read("password_file", path).toString("utf8").split(/\r?\n/);
  if (line === "") throw unreadable("password_file", path, "its first line is empty");
  return line;
}

function readChecked(key: string, path: string, check: (pem: Buffer) => unknown): Buffer {
  const pem = read(key, path);
  try {
    check(pem);
    return pem;
  } catch (cause) {
    throw unreadable(key, path, `it is not PEM (${reasonOf(cause)})`, cause);
  }
}

function assertPair(files: TlsFiles, { cert, key }: TlsMaterial): void {
  if (!cert || !key) return;
  if (!new X509Certificate(cert).checkPrivateKey(createPrivateKey(key))) {
    throw unreadable("key_file", files.key_file ?? "", `it is not the key of ${files.cert_file}`);
  }
}

function read(key: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw unreadable(key, path, reasonOf(cause), cause);
  }
}

function unreadable(key: string, path: string, why: string, cause?: unknown): SluiceError {
  return new SluiceError("CERTIFICATE_UNREADABLE", `${key} ${path} cannot be used: ${why}`, {
    cause,
  });
}
