// printable: text from outside as a terminal may show it.
// Path: log, cli. Touches: nothing.

const NAMED: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

/**
 * `text` with everything in escapes that would move a cursor, hide text or turn its direction:
 * what a client sends must not be able to rewrite what an operator reads.
 */
export function printable(text: string): string {
  return text.replace(
    /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu,
    (character) => NAMED[character] ?? `\\u{${character.codePointAt(0)?.toString(16)}}`,
  );
}
