// passwords: what proves a password without holding it, and its form in a line of text.
// Path: users. Touches: libuv's threads.

import { randomBytes, scrypt, timingSafeEqual } from "node:crypto";
import { SluiceError } from "#contract/errors";

export const PASSWORD_LIMITS = {
  /** What MQTT can carry. */
  bytesMax: 65_535,
  /** What the cost that a line names may make one hash take. */
  hashMemoryBytesMax: 64 * 1024 * 1024,
} as const;

const COST = { cost: 16_384, blockSize: 8, parallelization: 1 } as const;
const SALT_BYTES = 16;
const HASH_BYTES = 32;

export interface PasswordHash {
  readonly cost: number;
  readonly blockSize: number;
  readonly parallelization: number;
  readonly salt: Buffer;
  readonly hash: Buffer;
}

/** Stands in for a user who is not there, so that the answer takes as long as for one who is. */
const NOBODY: PasswordHash = {
  ...COST,
  salt: randomBytes(SALT_BYTES),
  hash: randomBytes(HASH_BYTES),
};

/** Hashes a password with a salt of its own: 16 MiB for some tens of milliseconds of a fast core. */
export async function hashPassword(password: string | Uint8Array): Promise<PasswordHash> {
  const bytes = Buffer.byteLength(password);
  if (bytes === 0 || bytes > PASSWORD_LIMITS.bytesMax) {
    const allowed = `allowed: 1 to ${PASSWORD_LIMITS.bytesMax} bytes`;
    throw new SluiceError("USAGE", `the password has ${bytes} bytes; ${allowed}`);
  }
  const salt = randomBytes(SALT_BYTES);
  const hash = await derive(password, { ...COST, salt, hash: Buffer.alloc(HASH_BYTES) });
  return { ...COST, salt, hash };
}

/** Is this the password? Takes as long for nobody (undefined) as for somebody, and says no. */
export async function verifyPassword(
  password: string | Uint8Array,
  known: PasswordHash | undefined,
): Promise<boolean> {
  const against = known ?? NOBODY;
  const isEqual = timingSafeEqual(await derive(password, against), against.hash);
  return isEqual && known !== undefined;
}

function derive(password: string | Uint8Array, against: PasswordHash): Promise<Buffer> {
  const { cost, blockSize, parallelization, salt, hash } = against;
  // Node counts the parallel blocks too, which memoryBytes leaves out.
  const maxmem = 2 * PASSWORD_LIMITS.hashMemoryBytesMax;
  return new Promise((resolve, reject) => {
    scrypt(
      password,
      salt,
      hash.length,
      { cost, blockSize, parallelization, maxmem },
      (fault, derived) => (fault ? reject(fault) : resolve(derived)),
    );
  });
}

/** `scrypt:<cost>:<block size>:<parallelization>:<salt>:<hash>`, the last two in base64. */
export function formatHash(it: PasswordHash): string {
  const numbers = [it.cost, it.blockSize, it.parallelization].join(":");
  return `scrypt:${numbers}:${it.salt.toString("base64")}:${it.hash.toString("base64")}`;
}

/** Reads what formatHash wrote; the string says what is wrong, and quotes nothing. */
export function parseHash(text: string): PasswordHash | string {
  const [scheme, cost, blockSize, parallelization, salt, hash, ...more] = text.split(":");
  if (scheme !== "scrypt") return "the password's scheme is not known; known is scrypt";
  if (hash === undefined || more.length > 0) return "a field is missing or too many";
  const read = {
    cost: wholeNumber(cost),
    blockSize: wholeNumber(blockSize),
    parallelization: wholeNumber(parallelization),
    salt: Buffer.from(salt ?? "", "base64"),
    hash: Buffer.from(hash, "base64"),
  };
  if (!isCostAllowed(read)) return "the password's cost is out of range";
  if (read.salt.toString("base64") !== salt || read.hash.toString("base64") !== hash) {
    return "salt or hash is not base64";
  }
  if (read.salt.length < 8 || read.hash.length < 16 || read.hash.length > 64) {
    return "salt or hash is too short or too long";
  }
  return read;
}

function isCostAllowed({ cost, blockSize, parallelization }: PasswordHash): boolean {
  const memoryBytes = 128 * cost * blockSize;
  return (
    cost >= 1_024 &&
    Number.isInteger(Math.log2(cost)) &&
    blockSize >= 1 &&
    parallelization >= 1 &&
    parallelization <= 16 &&
    memoryBytes <= PASSWORD_LIMITS.hashMemoryBytesMax
  );
}

function wholeNumber(text = ""): number {
  return /^[0-9]{1,9}$/.test(text) ? Number(text) : Number.NaN;
}
