// images: the folder of the images that may be flashed by MQTT.
// Path: verb → [images]. Touches: the folder that the settings name.

import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { reasonOf, SluiceError } from "#contract/errors";
import type { Image } from "./flasher.ts";

const SIGNATURE_BYTES_MAX = 4_096;
/** A name, so that it stays in the folder, and one that no program takes for an option. */
const FILE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

/**
 * The image `file` of the folder, and the signature that lies beside it as `<file>.sig`.
 * @throws SluiceError FLASH_REFUSED when there is no such image, or it has another SHA-256.
 */
export async function readImage(
  folder: string,
  { file, sha256 }: { readonly file: string; readonly sha256: string },
  bytesMax: number,
): Promise<Image> {
  if (!FILE_NAME.test(file)) throw refused(`${JSON.stringify(file)} is no file's name`);
  const path = join(folder, file);
  const bytes = await readBounded(path, bytesMax);
  const found = createHash("sha256").update(bytes).digest("hex");
  if (found !== sha256.toLowerCase()) throw refused(`${path} has the SHA-256 ${found}`);
  const signature = await readBounded(`${path}.sig`, SIGNATURE_BYTES_MAX);
  return { bytes, signature };
}

async function readBounded(path: string, bytesMax: number): Promise<Buffer> {
  try {
    // Whoever may write there could otherwise have any file read, or us wait at a pipe.
    const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    return await readWhole(file, path, bytesMax).finally(() => file.close());
  } catch (cause) {
    if (cause instanceof SluiceError) throw cause;
    throw refused(`${path} cannot be read: ${reasonOf(cause)}`, cause);
  }
}

async function readWhole(file: FileHandle, path: string, bytesMax: number): Promise<Buffer> {
  const stat = await file.stat();
  if (!stat.isFile()) throw refused(`${path} is no file`);
  const room = Buffer.alloc(Math.min(stat.size, bytesMax) + 1);
  let length = 0;
  while (length < room.length) {
    const { bytesRead } = await file.read(room, length, room.length - length, length);
    if (bytesRead === 0) return room.subarray(0, length);
    length += bytesRead;
  }
  throw refused(`${path} is larger than ${bytesMax} bytes, or grows`);
}

function refused(message: string, cause?: unknown): SluiceError {
  return new SluiceError("FLASH_REFUSED", message, { cause });
}
