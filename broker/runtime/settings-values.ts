// settings-values: the kinds of values that settings have, each with its own words for what it allows.
// Path: settings-schema, settings-links, drivers → [settings-values]. Touches: nothing.

import * as v from "valibot";
import { reasonOf } from "#contract/errors";
import { assertTopicFilter, NAME_PATTERN } from "#contract/topics";

/** A whole number, both ends included. */
export const whole = (least: number, most: number) =>
  v.pipe(
    v.number("allowed: a whole number"),
    v.check(
      (value) => Number.isInteger(value) && value >= least && value <= most,
      `allowed: a whole number from ${least} to ${most}`,
    ),
  );

/** One of the words. */
export const oneOf = <const T extends readonly string[]>(...words: T) =>
  v.picklist(words, `allowed: ${words.map((word) => JSON.stringify(word)).join(", ")}`);

/** true or false. */
export const flag = () => v.boolean("allowed: true or false");

/** A path of the file system. */
export const path = v.pipe(v.string("allowed: a path"), v.minLength(1, "allowed: a path"));

/** A path from the root on. */
export const absolutePath = v.pipe(path, v.startsWith("/", "allowed: a path that begins with /"));

/** What can stand in a topic as one level, and in a key. */
export const name = v.pipe(
  v.string("allowed: a name"),
  v.regex(NAME_PATTERN, "allowed: 1 to 63 of A-Z a-z 0-9 . _ - that begin with a letter or digit"),
);

const HOST_PORT = /^(?:\[[0-9a-fA-F:.]+\]|[^\s:[\]]+):(?:[0-9]{1,5})$/;

/** Is it `host:port`, IPv6 in brackets? */
export function isHostPort(text: string): boolean {
  return HOST_PORT.test(text) && Number(text.slice(text.lastIndexOf(":") + 1)) <= 65_535;
}

/** `host:port`, IPv6 in brackets. */
export const hostPort = v.pipe(
  v.string("allowed: host:port"),
  v.check(isHostPort, 'allowed: host:port, as "127.0.0.1:1883"'),
);

/** `host:port`, or `unix:/path`? */
export function isListenAddress(text: string): boolean {
  return isHostPort(text) || /^unix:\/.+/.test(text);
}

/** `host:port`, or `unix:/path`. */
export const listenAddress = v.pipe(
  v.string("allowed: host:port or unix:/path"),
  v.check(isListenAddress, 'allowed: host:port, as "127.0.0.1:1883", or "unix:/path"'),
);

/** An MQTT topic filter (MQTT 5.0 §4.7). */
export const filter = v.pipe(
  v.string("allowed: an MQTT topic filter"),
  v.rawCheck(({ dataset, addIssue }) => {
    if (!dataset.typed) return;
    try {
      assertTopicFilter(dataset.value);
    } catch (fault) {
      addIssue({ message: `allowed: an MQTT topic filter; ${reasonOf(fault)}` });
    }
  }),
);

/** A URL of one of these protocols (`redis:`), without a password in it. */
export function urlOf(...protocols: string[]) {
  const allowed = `allowed: a URL that begins with ${protocols.map((p) => `${p}//`).join(" or ")}`;
  return v.pipe(
    v.string(allowed),
    v.check((text) => URL.canParse(text) && protocols.includes(new URL(text).protocol), allowed),
    withoutPassword(),
  );
}

/** Refuses a URL that holds a password: secrets stand in files. */
export function withoutPassword() {
  return v.check<string, string>(
    // Looked at as text: a password with / ? or # in it makes a URL whose host is the user's name.
    (text) => !/\/\/.*:.*@/.test(text),
    "allowed: a URL without a password; name a file in password_file",
  );
}

/** Refuses tables of which two have the same; `allowed` says what may be there once. */
export function eachOnce<T>(keyOf: (table: T) => string | number, allowed: string) {
  const twice = (tables: readonly T[]) => {
    const keys = tables.map(keyOf);
    return keys.find((key, index) => keys.indexOf(key) < index);
  };
  return v.check<T[], (issue: v.CheckIssue<T[]>) => string>(
    (tables) => twice(tables) === undefined,
    ({ input }) => `${allowed}; ${JSON.stringify(twice(input))} is there twice`,
  );
}

/** Text that is not empty. */
export const text = v.pipe(v.string("allowed: a text"), v.minLength(1, "allowed: a text"));
