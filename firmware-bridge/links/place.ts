// place: finds the port of a link, and never takes another for it.
// Path: links → [place]. Touches: /sys and /dev, by usb-ports.ts and node-watch.ts.

import { dirname, join } from "node:path";
import { type LinkSettings, type MatchSettings, whereOf } from "#runtime/settings-links";
import { isThere } from "./node-watch.ts";
import { type Roots, type UsbPort, usbPorts } from "./usb-ports.ts";

/** A port, or an address, that can be opened. */
export interface FoundPort {
  readonly kind: "found";
  /** What to open. */
  readonly node: string;
  /** What it is known by, and why by that. */
  readonly identity: string;
  readonly warning?: string;
  readonly port?: UsbPort;
}

/** What is where a link should be. */
export type Found = FoundPort | { readonly kind: "absent" | "failing"; readonly why: string };

/** Where one link is to be found, as long as the process lives. */
export interface Place {
  /** Paths whose folders change when something else can be found; none when nothing can. */
  readonly watched: readonly string[];
  find(): Promise<Found>;
  /** From now on this is the port of this link. */
  remember(found: FoundPort): void;
}

export function placeOf(settings: LinkSettings, roots: Roots): Place {
  const { path, match } = settings;
  if (match) return new MatchPlace(match, whereOf(settings), roots);
  if (path === undefined) return new NetworkPlace(whereOf(settings));
  return dirname(path) === join(roots.dev, "serial/by-id")
    ? new ByIdPlace(path, roots)
    : new PathPlace(path);
}

class NetworkPlace implements Place {
  readonly watched = [];
  readonly #address: string;

  constructor(address: string) {
    this.#address = address;
  }

  async find(): Promise<Found> {
    return { kind: "found", node: this.#address, identity: this.#address };
  }

  remember(): void {}
}

class PathPlace implements Place {
  readonly watched: readonly string[];
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
    this.watched = [path];
  }

  async find(): Promise<Found> {
    if (!(await isThere(this.#path))) return notThere(this.#path);
    return { kind: "found", node: this.#path, identity: this.#path };
  }

  remember(): void {}
}

/** udev's name points to whichever came last of two adapters that it cannot tell apart. */
class ByIdPlace implements Place {
  readonly watched: readonly string[];
  readonly #path: string;
  readonly #roots: Roots;
  /** The port that was open, since its name was seen to be another's, too. */
  #known: UsbPort | undefined;
  #isShared = false;

  constructor(path: string, roots: Roots) {
    this.#path = path;
    this.#roots = roots;
    this.watched = [path, ...udevFolders(roots)];
  }

  async find(): Promise<Found> {
    const isNamed = await isThere(this.#path);
    const ports = await usbPorts(this.#roots);
    const named = isNamed ? ports.find(({ byId }) => byId === this.#path) : undefined;
    const known = ports.find((it) => it.place === this.#known?.place && isSame(it, this.#known));
    const port = known ?? named;
    if (!port) {
      const there = {
        kind: "found",
        node: this.#path,
        identity: byIdIdentity(this.#path),
      } as const;
      return isNamed ? there : notThere(this.#path);
    }
    const twins = ports.filter(({ kind }) => kind === port.kind);
    if (twins.length > 1) this.#isShared = true;
    if (!this.#isShared && !this.#mayBeAnother(port)) {
      return { kind: "found", node: this.#path, identity: byIdIdentity(this.#path), port };
    }
    const warning = this.#warning(port, twins);
    return { kind: "found", node: pathOf(port), identity: sharedIdentity(port), warning, port };
  }

  remember(found: FoundPort): void {
    this.#known = found.port;
  }

  /** Without a serial number, a plug that was moved looks like another adapter. */
  #mayBeAnother({ serial, place }: UsbPort): boolean {
    return this.#known !== undefined && serial === "" && this.#known.place !== place;
  }

  #warning(port: UsbPort, twins: readonly UsbPort[]): string {
    const others = twins.filter((it) => it !== port).map(pathOf);
    const names = others.length > 0 ? `is the name of ${list([pathOf(port), ...others])}` : "";
    const moved =
      this.#known && this.#known.place !== port.place
        ? `was at ${pathOf(this.#known)}, and may be another adapter now`
        : "";
    const what = [names, moved].filter((it) => it !== "").join(", ") || "was the name of two";
    return `${this.#path} ${what}; ${pathOf(port)} is opened. ${mend(port)}`;
  }
}

/** Any adapter of a kind, until one was open: from then on that one. */
class MatchPlace implements Place {
  readonly watched: readonly string[];
  readonly #match: MatchSettings;
  readonly #where: string;
  readonly #roots: Roots;
  #known: UsbPort | undefined;

  constructor(match: MatchSettings, where: string, roots: Roots) {
    this.#match = match;
    this.#where = where;
    this.#roots = roots;
    this.watched = udevFolders(roots);
  }

  async find(): Promise<Found> {
    const ports = await usbPorts(this.#roots);
    const candidates = ports.filter((port) => isMatch(port, this.#match));
    if (candidates.length === 0) return notThere(this.#where);
    if (this.#known) return this.#findAgain(this.#known, candidates, ports);
    const [port, ...others] = candidates;
    if (port && others.length === 0) return this.#found(port, ports);
    const why = `${this.#where} is at ${list(candidates.map(pathOf))}`;
    return { kind: "failing", why: `${why}, and cannot be told apart. ${mend(candidates[0])}` };
  }

  remember(found: FoundPort): void {
    this.#known = found.port;
  }

  #found(port: UsbPort, ports: readonly UsbPort[], warning?: string): Found {
    const isShared = ports.some((it) => it !== port && it.kind === port.kind);
    const byId = isShared ? undefined : port.byId;
    const identity = byId === undefined ? sharedIdentity(port, isShared) : byIdIdentity(byId);
    const found = { kind: "found", node: pathOf(port), identity, port } as const;
    return warning === undefined ? found : { ...found, warning };
  }

  /** The same socket, or the same serial number; nothing else shows that it is the same one. */
  #findAgain(known: UsbPort, candidates: readonly UsbPort[], ports: readonly UsbPort[]): Found {
    const here = candidates.find(({ place }) => place === known.place);
    const same = candidates.filter((it) => known.serial !== "" && isSame(it, known));
    const [moved, ...more] = same;
    if (here && isSame(here, known)) return this.#found(here, ports);
    if (moved && more.length === 0) return this.#found(moved, ports);
    if (here) {
      const warning = `another adapter is at ${pathOf(here)} now: ${told(here)}, was ${told(known)}`;
      return this.#found(here, ports, warning);
    }
    const there = list(candidates.map(pathOf));
    const why = `${this.#where} at ${pathOf(known)} is gone; what is at ${there} may be another`;
    return { kind: "absent", why: `${why}. ${mend(candidates[0])}` };
  }
}

function isMatch(port: UsbPort, match: MatchSettings): boolean {
  return (
    port.vid === match.vid &&
    port.pid === match.pid &&
    (match.serial === undefined || match.serial === port.serial) &&
    (match.interface === undefined || match.interface === port.interface)
  );
}

function isSame(port: UsbPort, known: UsbPort | undefined): boolean {
  return port.kind === known?.kind;
}

function notThere(where: string): Found {
  return { kind: "absent", why: `${where} is not there` };
}

/** What stays the same as long as the plug does. */
function pathOf(port: UsbPort): string {
  return port.byPath ?? port.node;
}

function mend(port: UsbPort | undefined): string {
  return `Say which: path = "${port ? pathOf(port) : "/dev/serial/by-path/…"}"`;
}

function told({ serial }: UsbPort): string {
  return serial === "" ? "one without a serial number" : `serial ${serial}`;
}

function byIdIdentity(path: string): string {
  return `by-id ${path}`;
}

function sharedIdentity(port: UsbPort, isShared = true): string {
  const why = isShared ? "two adapters share their name by id" : "it has no name by id";
  return `by-path ${pathOf(port)} because ${why}`;
}

function list(paths: readonly string[]): string {
  return paths.join(" and ");
}

function udevFolders({ dev }: Roots): string[] {
  return ["serial/by-id", "serial/by-path"].map((folder) => join(dev, folder, "any"));
}
