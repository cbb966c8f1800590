// settings-conflicts: faults of the settings that no single key shows.
// Path: settings-schema → [settings-conflicts]. Touches: nothing.

import type * as v from "valibot";

type Keys = (string | number)[];
type Tell = (message: string, ...keys: Keys) => void;

export interface Conflict {
  readonly message: string;
  readonly path: [v.ObjectPathItem, ...v.IssuePathItem[]];
}

/**
 * What no single key shows: tables of the other role, lanes that are not there, equal devices.
 * Looks at a file that may have other faults, so that all of them are told at once.
 */
export function conflicts(settings: unknown, drivers: readonly string[]): Conflict[] {
  const faults: Conflict[] = [];
  const fault = (message: string, ...keys: Keys) =>
    faults.push({ message, path: issuePath(settings, keys) });
  roleConflicts(settings, fault);
  laneConflicts(settings, fault);
  linkConflicts(settings, drivers, fault);
  userConflicts(settings, fault);
  flashConflicts(settings, fault);
  return faults;
}

function roleConflicts(settings: unknown, fault: Tell): void {
  const isThere = (key: string) => at(settings, key) !== undefined;
  if (at(settings, "role") === "cloud") {
    if (!isThere("landing"))
      fault("allowed in role cloud: a [landing] table with its url", "landing");
    if (!isThere("cluster"))
      fault("allowed in role cloud: a [cluster] table with its url", "cluster");
    if (isThere("uplink")) fault('allowed: with role = "gateway" only', "uplink");
  } else if (at(settings, "role") === "gateway") {
    if (isThere("landing")) fault('allowed: with role = "cloud" only', "landing");
    if (isThere("cluster")) fault('allowed: with role = "cloud" only', "cluster");
  }
}

function laneConflicts(settings: unknown, fault: Tell): void {
  const lanes = column(at(at(settings, "outbox"), "lanes"), "name");
  for (const [index, lane] of column(at(at(settings, "uplink"), "forward"), "lane").entries()) {
    if (typeof lane === "string" && !lanes.includes(lane)) {
      fault(`allowed: a lane of [outbox]: ${lanes.join(", ")}`, "uplink", "forward", index, "lane");
    }
  }
  for (const index of repeats(lanes))
    fault("allowed: each name once", "outbox", "lanes", index, "name");
}

function linkConflicts(settings: unknown, drivers: readonly string[], fault: Tell): void {
  const links = at(settings, "links");
  for (const key of ["path", "address", "device", "name"]) {
    for (const index of repeats(column(links, key)))
      fault(`allowed: each ${key} once`, "links", index, key);
  }
  if (Array.isArray(links))
    for (const [index, link] of links.entries()) placeConflicts(link, index, fault);
  const kinds = column(links, "driver");
  for (const driver of drivers) {
    for (const [index, table] of column(links, driver).entries()) {
      const isOwn = (kinds[index] ?? "lines") === driver;
      if (table !== undefined && !isOwn)
        fault(`allowed: with driver = "${driver}" only`, "links", index, driver);
    }
  }
}

const PLACES = ["path", "match", "address"] as const;

/** Where one link is: said once, with a name where none can be made, and with what fits it. */
function placeConflicts(link: unknown, index: number, fault: Tell): void {
  const isThere = (key: string) => at(link, key) !== undefined;
  const [place, ...more] = PLACES.filter(isThere);
  if (place === undefined) fault("allowed: one of path, match and address", "links", index, "path");
  for (const key of more) fault(`allowed: without ${place}`, "links", index, key);
  if (place !== undefined && place !== "path" && !isThere("name") && !isThere("device"))
    fault(`allowed: with ${place}, a name or a device`, "links", index, "name");
  const address = at(link, "address");
  if (typeof address === "string" && address.startsWith("udp:") && at(link, "driver") !== "mqtt-sn")
    fault('allowed: udp:// with driver = "mqtt-sn" only', "links", index, "address");
  if (place === "address" && isThere("flash"))
    fault("allowed: without address, for a serial port", "links", index, "flash");
  // Both would drive RTS.
  if (at(link, "hardware_flow") === true && isThere("rs485"))
    fault("allowed: without hardware_flow", "links", index, "rs485");
}

/** A password that is nobody's. */
function userConflicts(settings: unknown, fault: Tell): void {
  const isAlone = (table: unknown) =>
    at(table, "password_file") !== undefined && at(table, "username") === undefined;
  const bridge = at(settings, "bridge");
  if (isAlone(bridge)) fault("allowed: beside username", "bridge", "password_file");
  const links = at(settings, "links");
  if (at(bridge, "username") !== undefined || !Array.isArray(links)) return;
  for (const [index, link] of links.entries()) {
    if (isAlone(link)) fault("allowed: beside username", "links", index, "password_file");
  }
}

function flashConflicts(settings: unknown, fault: Tell): void {
  if (at(settings, "flash") !== undefined) return;
  for (const [index, table] of column(at(settings, "links"), "flash").entries()) {
    if (table !== undefined) fault("allowed: with a [flash] table", "links", index, "flash");
  }
}

function at(value: unknown, key: string): unknown {
  return typeof value === "object" && value !== null && Object.hasOwn(value, key)
    ? (value as Record<string, unknown>)[key]
    : undefined;
}

/** What each table of an array of tables has under `key`. */
function column(tables: unknown, key: string): unknown[] {
  return Array.isArray(tables) ? tables.map((table) => at(table, key)) : [];
}

/** Where text stands that stood before. */
function repeats(values: readonly unknown[]): number[] {
  return [...values.keys()].filter(
    (index) => typeof values[index] === "string" && values.indexOf(values[index]) < index,
  );
}

function issuePath(root: unknown, keys: Keys): Conflict["path"] {
  let input = root as Record<string | number, unknown>;
  const items = keys.map((key) => {
    const value = input?.[key];
    const item = { type: "unknown", origin: "value", input, key, value } as v.UnknownPathItem;
    input = value as Record<string | number, unknown>;
    return item;
  });
  return items as unknown as Conflict["path"];
}
