// printable.test: what of a stranger's text reaches a terminal.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { printable } from "#runtime/printable";

test("leaves text that a terminal only shows as it is", () => {
  for (const text of ["", "a b", 'C:\\x "y"', "Gerät 5 °C", "温度", "😀"]) {
    assert.equal(printable(text), text);
  }
});

test("shows what would move the cursor, hide or turn text in escapes", () => {
  assert.equal(printable("a\u001b[2Jb\r\n\tc"), "a\\u{1b}[2Jb\\r\\n\\tc");
  assert.equal(printable("\u009b\u007f\u0000"), "\\u{9b}\\u{7f}\\u{0}");
  assert.equal(printable("\u202e\u200b\u2028\ufeff"), "\\u{202e}\\u{200b}\\u{2028}\\u{feff}");
  assert.equal(printable("\ud800x"), "\\u{d800}x");
});

test("lets no control character through, whatever it is given", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      assert.doesNotMatch(printable(text), /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u);
      assert.equal(printable(printable(text)), printable(text));
    }),
    { seed: 20_260_202, numRuns: 1_000 },
  );
});
