// users: the users file: who may log in. Shared by the broker's access check and `sluice user`.
// Path: access, cli. Touches: the users file and its folder.
//
// One user a line, comments on lines that begin with #; the scheme's word says how to read the rest:
//
//   name:scrypt:<cost>:<block size>:<parallelization>:<salt>:<hash>

import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import {
  closeSync,
  fchmodSync,
  fchownSync,
  fsyncSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { reasonOf, SluiceError } from "#contract/errors";
import { formatHash, type PasswordHash, parseHash, verifyPassword } from "./passwords.ts";

export const USERS_LIMITS = {
  nameBytesMax: 128,
  fileBytesMax: 8 * 1024 * 1024,
  /** Of libuv's four threads, which the store's writes need too. */
  hashesAtOnceMax: 2,
  loginsWaitingMax: 128,
} as const;

const FILE_MODE = 0o640;

/** What is wrong with a user's name; undefined when nothing is. */
export function userNameFault(name: string): string | undefined {
  const bytes = Buffer.byteLength(name);
  if (bytes === 0) return "is empty";
  if (bytes > USERS_LIMITS.nameBytesMax) return `is longer than ${USERS_LIMITS.nameBytesMax} bytes`;
  if (name.includes(":")) return "holds a colon";
  if (/\p{Cc}/u.test(name)) return "holds a control character";
  if (!name.isWellFormed()) return "is not UTF-8";
  if (name.startsWith("#")) return "begins with #, as comments do";
  return undefined;
}

/**
 * The users of a file by their names; none when there is no such file.
 * @throws SluiceError SETTINGS_INVALID that names file and line, and quotes nothing of it.
 */
export function readUsers(path: string): ReadonlyMap<string, PasswordHash> {
  return parseUsers(readLines(path), path);
}

/** Adds a user or gives a known one another password; the file's other lines stay as they are. */
export function putUser(path: string, name: string, hash: PasswordHash): "added" | "replaced" {
  const fault = userNameFault(name);
  if (fault !== undefined) throw new SluiceError("USAGE", `the user's name ${fault}`);
  const lines = readLines(path);
  const line = `${name}:${formatHash(hash)}`;
  const isKnown = parseUsers(lines, path).has(name);
  writeLines(path, isKnown ? lines.map((it) => (isOf(it, name) ? line : it)) : [...lines, line]);
  return isKnown ? "replaced" : "added";
}

/** Takes a user out; false when there is none of that name. */
export function removeUser(path: string, name: string): boolean {
  const lines = readLines(path);
  if (!parseUsers(lines, path).has(name)) return false;
  writeLines(
    path,
    lines.filter((line) => !isOf(line, name)),
  );
  return true;
}

function isOf(line: string, name: string): boolean {
  return line.startsWith(`${name}:`);
}

function readLines(path: string): string[] {
  try {
    const { size } = statSync(path);
    if (size > USERS_LIMITS.fileBytesMax) {
      throw new Error(`${size} bytes are more than ${USERS_LIMITS.fileBytesMax}`);
    }
    const text = new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(path));
    return text === "" ? [] : text.replace(/\r?\n$/, "").split(/\r?\n/);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return [];
    const message = `users file ${path} cannot be read: ${reasonOf(cause)}`;
    throw new SluiceError("SETTINGS_INVALID", message, { cause });
  }
}

function parseUsers(lines: readonly string[], path: string): Map<string, PasswordHash> {
  const users = new Map<string, PasswordHash>();
  for (const [index, line] of lines.entries()) {
    if (line.trim() === "" || line.startsWith("#")) continue;
    const refuse = (what: string) =>
      new SluiceError("SETTINGS_INVALID", `${path}:${index + 1}: ${what}`);
    const colon = line.indexOf(":");
    if (colon < 0)
      throw refuse("no user: allowed is name:scrypt:…, as `sluice user add` writes it");
    const name = line.slice(0, colon);
    const fault = userNameFault(name);
    if (fault !== undefined) throw refuse(`the user's name ${fault}`);
    if (users.has(name)) throw refuse("the user stands in a line before");
    const hash = parseHash(line.slice(colon + 1));
    if (typeof hash === "string") throw refuse(hash);
    users.set(name, hash);
  }
  return users;
}

/** Puts a whole new file in the place of the old one, so that a reader sees either of them. */
function writeLines(path: string, lines: readonly string[]): void {
  try {
    const target = realPath(path);
    const folder = dirname(target);
    const temporary = join(folder, `.${basename(target)}.${randomBytes(6).toString("hex")}`);
    try {
      writeSynced(temporary, lines.map((line) => `${line}\n`).join(""), ownerOf(target, folder));
      renameSync(temporary, target);
    } catch (cause) {
      rmSync(temporary, { force: true });
      throw cause;
    }
    syncFolder(folder);
  } catch (cause) {
    const message = `users file ${path} cannot be written: ${reasonOf(cause)}`;
    throw new SluiceError("SETTINGS_INVALID", message, { cause });
  }
}

/** Where a link leads: the link itself is not to be replaced. */
function realPath(path: string): string {
  return statSync(path, { throwIfNoEntry: false }) ? realpathSync(path) : path;
}

interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** A file keeps its owner; a new one gets its folder's group, which the service reads it by. */
function ownerOf(target: string, folder: string): Owner {
  const old = statSync(target, { throwIfNoEntry: false });
  return old ?? { uid: process.geteuid?.() ?? -1, gid: statSync(folder).gid };
}

function writeSynced(path: string, text: string, owner: Owner): void {
  const file = openSync(path, "wx", 0o600);
  try {
    writeFileSync(file, text);
    giveTo(file, owner);
    fchmodSync(file, FILE_MODE);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

function giveTo(file: number, { uid, gid }: Owner): void {
  try {
    fchownSync(file, uid, gid);
  } catch (fault) {
    // Only root may give a file away; everybody else keeps their own.
    if ((fault as NodeJS.ErrnoException).code !== "EPERM") throw fault;
  }
}

function syncFolder(folder: string): void {
  const file = openSync(folder, "r");
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/**
 * The users of a file as a running broker needs them: follows the file's changes, keeps the last
 * good set when it breaks, and hashes few passwords at once, so that a flood of logins cannot
 * hold up the store.
 */
export class Users {
  readonly #path: string;
  readonly #onBroken: (why: string) => void;
  readonly #turns = new Turns(USERS_LIMITS.hashesAtOnceMax, USERS_LIMITS.loginsWaitingMax);
  /** Of each user whose password was proved: its mark, so that a reconnect needs no hash. */
  readonly #proved = new Map<string, Buffer>();
  readonly #markKey = randomBytes(32);
  #users: ReadonlyMap<string, PasswordHash>;
  #seen: string;

  /** @throws SluiceError SETTINGS_INVALID when the file is broken from the start. */
  constructor(path: string, onBroken: (why: string) => void) {
    this.#path = path;
    this.#onBroken = onBroken;
    this.#seen = fingerprint(path);
    this.#users = readUsers(path);
  }

  /**
   * Is this the user's password? Takes as long for unknown users as for known ones.
   * @throws SluiceError ACCESS_DENIED when too many wait: no answer, so the client may try again.
   */
  async verify(name: string, password: string | Uint8Array): Promise<boolean> {
    this.#follow();
    const known = this.#users.get(name);
    const mark = known && this.#markOf(known, password);
    const proved = this.#proved.get(name);
    if (mark && proved && timingSafeEqual(mark, proved)) return true;
    const isRight = await this.#turns.take(() => verifyPassword(password, known));
    // The file may have changed meanwhile; then the mark, made with the old hash, fits no more.
    if (isRight && mark) this.#proved.set(name, mark);
    return isRight;
  }

  #markOf(known: PasswordHash, password: string | Uint8Array): Buffer {
    return createHmac("sha256", this.#markKey).update(known.hash).update(password).digest();
  }

  #follow(): void {
    const seen = fingerprint(this.#path);
    if (seen === this.#seen) return;
    this.#seen = seen;
    try {
      this.#users = readUsers(this.#path);
    } catch (fault) {
      if (!(fault instanceof SluiceError)) throw fault;
      this.#onBroken(fault.message);
      return;
    }
    for (const name of this.#proved.keys()) if (!this.#users.has(name)) this.#proved.delete(name);
  }
}

/** What changes whenever a file does; also says in which way it cannot be looked at. */
function fingerprint(path: string): string {
  try {
    const { ino, size, mtimeNs, ctimeNs } = statSync(path, { bigint: true });
    return [ino, size, mtimeNs, ctimeNs].join(" ");
  } catch (fault) {
    return reasonOf(fault);
  }
}

/** Lets few work at once and a bounded number wait, in their order. */
class Turns {
  readonly #atOnceMax: number;
  readonly #waitingMax: number;
  readonly #waiting: (() => void)[] = [];
  #working = 0;

  constructor(atOnceMax: number, waitingMax: number) {
    this.#atOnceMax = atOnceMax;
    this.#waitingMax = waitingMax;
  }

  async take<T>(work: () => Promise<T>): Promise<T> {
    if (this.#working < this.#atOnceMax) this.#working += 1;
    else await this.#wait();
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      // Whoever is next takes over this turn; it is not given back in between.
      if (next) next();
      else this.#working -= 1;
    }
  }

  #wait(): Promise<void> {
    if (this.#waiting.length >= this.#waitingMax) {
      const message = `${this.#waiting.length} logins wait already; try again later`;
      throw new SluiceError("ACCESS_DENIED", message);
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}
