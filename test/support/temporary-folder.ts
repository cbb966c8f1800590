// temporary-folder: a folder that is gone when its test is over.
// Path: tests. Touches: the temporary folder of the machine.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";

export function temporaryFolder(t: Pick<TestContext, "after">): string {
  const folder = mkdtempSync(join(tmpdir(), "sluice-test-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
