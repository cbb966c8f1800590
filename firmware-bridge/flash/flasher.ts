// flasher: brings images onto what is plugged into links, one at a time for each.
// Path: control, verb → [flasher] → link, run. Touches: a private folder in the temporary one.

import { createHash, type KeyObject } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { reasonOf, SluiceError } from "#contract/errors";
import type { FlashEvent } from "#contract/flash";
import type { Log } from "#runtime/log";
import { findProgram, type Programmer } from "./programmer.ts";
import { runProgrammer } from "./run.ts";
import { isSigned } from "./signature.ts";

/** A link that can be flashed. */
export interface FlashLink {
  readonly programmer: Programmer;
  /**
   * Takes the port from the driver while `use` runs; where the programmer locks the port by itself,
   * without our lock. @throws what `use` throws, which leaves the link failing with its message,
   * or SluiceError LINK_FAILED when there is no port to lend.
   */
  lend<T>(use: (path: string) => Promise<T>, lock: "kept" | "released"): Promise<T>;
}

export interface Image {
  readonly bytes: Buffer;
  /** Detached, raw or in base64. */
  readonly signature: Buffer | undefined;
}

export interface FlasherOptions {
  readonly links: ReadonlyMap<string, FlashLink>;
  /** Undefined where images need no signature. */
  readonly key: KeyObject | undefined;
  readonly secondsMax: number;
  /** Where programs are looked for, as PATH. */
  readonly searchPath: string;
  readonly log: Log;
  /** Told of all that happens on all links, beside whoever asked. */
  readonly onEvent?: (event: FlashEvent) => void;
}

type Tell = (event: FlashEvent) => void;

export class Flasher {
  readonly #options: FlasherOptions;
  readonly #stopping = new AbortController();
  readonly #underWay = new Map<string, Promise<void>>();

  constructor(options: FlasherOptions) {
    this.#options = options;
  }

  /** Can a link of this name be flashed at all? */
  knows(link: string): boolean {
    return this.#options.links.has(link);
  }

  /** @throws SluiceError FLASH_REFUSED when this link is not to be flashed now. */
  assertFree(link: string): void {
    this.#linkOf(link);
    if (this.#stopping.signal.aborted) throw refused("the firmware-bridge is stopping");
    if (this.#underWay.has(link)) {
      throw refused(`link ${link} is being flashed; wait for its end`);
    }
  }

  /**
   * Flashes one image. `tell` hears accepted, progress and, last, done, failed or refused. Goes on
   * to its end when whoever asked has gone: half an image is worse than either.
   */
  async flash(link: string, image: Image, tell: Tell): Promise<void> {
    const tellAll: Tell = (event) => {
      tell(event);
      this.#options.onEvent?.(event);
    };
    try {
      this.assertFree(link);
      const run = this.#flash(link, image, tellAll);
      const settled = run.then(
        () => {},
        () => {},
      );
      this.#underWay.set(link, settled);
      await run.finally(() => this.#underWay.delete(link));
    } catch (fault) {
      if (!(fault instanceof SluiceError)) throw fault;
      const state = fault.code === "FLASH_FAILED" ? "failed" : "refused";
      this.#options.log.warn({ link, why: fault.message }, `flash ${state}`);
      tellAll({ state, link, reason: fault.message });
    }
  }

  /** Ends the programmers; resolves when they are gone. */
  async stop(): Promise<void> {
    const why = "the firmware-bridge was stopped; flash the device again";
    this.#stopping.abort(new Error(why));
    await Promise.all(this.#underWay.values());
  }

  #linkOf(name: string): FlashLink {
    const link = this.#options.links.get(name);
    if (link) return link;
    const known = [...this.#options.links.keys()].join(", ");
    throw refused(
      `no link ${JSON.stringify(name)} has a table [links.flash]; those that do: ${known}`,
    );
  }

  async #flash(name: string, { bytes, signature }: Image, tell: Tell): Promise<void> {
    const { log } = this.#options;
    const link = this.#linkOf(name);
    const sha256 = createHash("sha256").update(bytes).digest("hex");
    this.#assertTrusted(bytes, signature);
    const fault = link.programmer.faultOf(bytes);
    if (fault) throw refused(`this is no image for ${link.programmer.program}: ${fault}`);
    const program = await findProgram(link.programmer, this.#options.searchPath);
    const startedMs = performance.now();
    const about = { link: name, bytes: bytes.length, sha256 };
    log.info(about, "flash accepted");
    tell({ state: "accepted", ...about });
    await this.#withImage(link.programmer, bytes, (folder) =>
      link.lend(
        (port) => this.#run(link.programmer, { name, program, port, folder, tell }),
        link.programmer.takesLock ? "released" : "kept",
      ),
    );
    const tookMs = Math.round(performance.now() - startedMs);
    log.info({ ...about, tookMs }, "flashed");
    tell({ state: "done", ...about, tookMs });
  }

  #assertTrusted(image: Buffer, signature: Buffer | undefined): void {
    const { key } = this.#options;
    if (!key) return;
    if (!signature) throw refused("the image has no signature, and public_key_file wants one");
    if (!isSigned(key, image, signature)) {
      throw refused("the signature is not of this image by the key in public_key_file");
    }
  }

  /** What was checked is what is flashed: a copy that nobody else can write. */
  async #withImage<T>(
    { imageName }: Programmer,
    image: Buffer,
    use: (folder: string) => Promise<T>,
  ): Promise<T> {
    const folder = await mkdtemp(join(tmpdir(), "sluice-flash-")).catch(notKept);
    try {
      await writeFile(join(folder, imageName), image, { mode: 0o600, flag: "wx" }).catch(notKept);
      return await use(folder);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  #run(
    programmer: Programmer,
    at: { name: string; program: string; port: string; folder: string; tell: Tell },
  ): Promise<void> {
    return runProgrammer({
      program: at.program,
      args: programmer.args(at.port),
      folder: at.folder,
      searchPath: this.#options.searchPath,
      secondsMax: this.#options.secondsMax,
      signal: this.#stopping.signal,
      onProgress: (progress) => at.tell({ state: "progress", link: at.name, ...progress }),
    });
  }
}

function refused(message: string, cause?: unknown): SluiceError {
  return new SluiceError("FLASH_REFUSED", message, { cause });
}

function notKept(cause: unknown): never {
  throw refused(`the image cannot be kept in ${tmpdir()}: ${reasonOf(cause)}`, cause);
}
