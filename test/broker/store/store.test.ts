import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { MessageNumbers } from "../../../broker/store/message-numbers.ts";
import { Store } from "../../../broker/store/store.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";

test("names the process that holds the data folder", async (t) => {
  const folder = temporaryFolder(t);
  const store = await Store.open(folder);
  t.after(() => store.close());
  await assert.rejects(Store.open(folder), { code: "DATA_HELD", message: /is held by .*stop it/ });
});

test("says why a data folder cannot be opened", async (t) => {
  const file = join(temporaryFolder(t), "file");
  writeFileSync(file, "");
  await assert.rejects(Store.open(file), { code: "STORE_FAILED", message: /file.*ENOTDIR/ });
});

test("keeps a cursor over a restart", async (t) => {
  const folder = temporaryFolder(t);
  const before = await Store.open(folder);
  assert.equal(await before.cursor("c").read(), undefined);
  await before.cursor("c").write("5-1");
  await before.close();
  const after = await Store.open(folder);
  t.after(() => after.close());
  assert.equal(await after.cursor("c").read(), "5-1");
});

test("never numbers a message twice, even when the clock fell back to 1970", async (t) => {
  const store = await Store.open(temporaryFolder(t));
  t.after(() => store.close());
  const [today, fallen] = [
    await MessageNumbers.open(store, Date.UTC(2026, 0, 1)),
    await MessageNumbers.open(store, 0),
  ];
  assert.ok(fallen.first > today.first);
  const first = (await MessageNumbers.open(store, 0)).first;
  assert.equal(String(first).length, 16, "numbers sort as text");
  assert.ok(Number.isSafeInteger(first));
});

test("a read that fails is told as the store's failure, not as LevelDB's", async (t) => {
  const store = await Store.open(temporaryFolder(t));
  await store.close();
  const all = async () => {
    for await (const _ of store.entries({ gte: "a", lt: "z" })) assert.fail("it is closed");
  };
  await assert.rejects(all(), { code: "STORE_FAILED", message: /LevelDB cannot read/ });
});
