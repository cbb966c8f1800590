// signature: is an image signed by the key that the settings name?
// Path: settings, image → [signature] → flasher. Touches: the file of the key.

import { createPublicKey, type KeyObject, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { reasonOf, SluiceError } from "#contract/errors";

/** The key in a PEM file; @throws SluiceError CERTIFICATE_UNREADABLE. */
export function readPublicKey(path: string): KeyObject {
  const pem = readPem(path);
  // From a private key one could be derived; but that key must not lie on a gateway.
  if (!pem.includes("-----BEGIN PUBLIC KEY-----")) throw unusable(path, "it is no PUBLIC KEY");
  const key = parsed(path, pem);
  const { asymmetricKeyType: type } = key;
  if (type !== "ed25519" && type !== "ec") throw unusable(path, `its key is ${type}`);
  return key;
}

function readPem(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw unusable(path, reasonOf(cause), cause);
  }
}

function parsed(path: string, pem: string): KeyObject {
  try {
    return createPublicKey(pem);
  } catch (cause) {
    throw unusable(path, reasonOf(cause), cause);
  }
}

function unusable(path: string, why: string, cause?: unknown): SluiceError {
  const wanted = "a PEM file with an Ed25519 or ECDSA public key is wanted";
  const message = `public_key_file ${path} cannot be used: ${why}; ${wanted}`;
  return new SluiceError("CERTIFICATE_UNREADABLE", message, { cause });
}

/** Ed25519 signs the image itself, ECDSA its SHA-256, in DER; either as bytes or in base64. */
export function isSigned(key: KeyObject, image: Uint8Array, signature: Buffer): boolean {
  const digest = key.asymmetricKeyType === "ed25519" ? null : "sha256";
  try {
    return verify(digest, image, key, unwrapped(signature));
  } catch {
    // OpenSSL throws at what is no DER at all.
    return false;
  }
}

/** What a signature in base64, with its line ends, stands for; 64 bytes are Ed25519's own. */
function unwrapped(signature: Buffer): Buffer {
  const text = signature.toString("latin1");
  const isText = signature.length > 64 && /^[A-Za-z0-9+/=\s]+$/.test(text);
  return isText ? Buffer.from(text, "base64") : signature;
}
