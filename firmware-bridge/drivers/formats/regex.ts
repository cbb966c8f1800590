// regex: a line or frame that one of several regular expressions fits; each named group is a field.
// Path: content → [regex]. Touches: nothing.

import { RE2JS, RE2JSException } from "re2js";
import { assignment, type Field, type Format, fieldFormat } from "./format.ts";

// What a device says must not decide how long we think. V8 tries (a+)+$ on forty bytes for minutes,
// a time limit by node:vm costs 130 µs a line and can be used up by each; RE2 takes time in
// proportion to the line, whatever stands in it, and has neither look-around nor back-references.

/** A format for these expressions: the first that fits, with a group that took part, is the line's. */
export function regexFormat(patterns: readonly string[]): Format {
  const all = patterns.map((pattern) => {
    const expression = RE2JS.compile(pattern);
    return { expression, names: Object.keys(expression.namedGroups()) };
  });
  return fieldFormat((text) => {
    for (const { expression, names } of all) {
      const match = expression.matcher(text);
      if (!match.find()) continue;
      const fields = names.flatMap((name): Field[] => {
        const value = match.group(name);
        return value === null ? [] : [[name, value]];
      });
      if (fields.length > 0) return fields;
    }
    return undefined;
  }, assignment);
}

/** The names of the expression's groups, in order, or what is wrong with it. */
export function groupNames(pattern: string): string[] | Error {
  try {
    return Object.keys(RE2JS.compile(pattern).namedGroups());
  } catch (fault) {
    if (!(fault instanceof RE2JSException)) throw fault;
    return fault;
  }
}

/** Whether the expression fits all of the text. */
export function fits(pattern: string, text: string): boolean {
  return RE2JS.matches(pattern, text);
}
