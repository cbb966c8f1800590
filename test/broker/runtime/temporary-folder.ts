// temporary-folder: a folder for one test, gone when the test is over.
// Path: test. Touches: the system's folder for temporary files.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";

/** The path of a new empty folder that is removed after the test. */
export function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "sluice-test-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
