import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Write } from "../../../broker/store/group-commit.ts";
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
  await before.commit(before.cursor("c").write("5-1"));
  await before.close();
  const after = await Store.open(folder);
  t.after(() => after.close());
  assert.equal(await after.cursor("c").read(), "5-1");
});

test("takes what two parts write as one batch, which is synced if one of them asks", async (t) => {
  const store = await Store.open(temporaryFolder(t));
  t.after(() => store.close());
  const calls: string[] = [];
  const write = (key: string, sync: boolean): Write => ({
    sync,
    prepare: () => [{ type: "put", key, value: new Uint8Array([1]) }],
    undo: () => calls.push(`undo ${key}`),
    stored: () => calls.push(`stored ${key}`),
  });
  assert.equal(store.take(undefined, undefined), undefined, "nobody has to wait");
  await store.take(write("a", false), undefined);
  await store.take(undefined, write("b", false));
  await store.take(write("c", false), write("d", true));
  for (const key of ["a", "b", "c", "d"]) assert.ok(await store.get(key));
  // A value that LevelDB refuses takes its companion with it.
  const value = JSON.parse("null");
  const refused = {
    ...write("f", false),
    prepare: () => [{ type: "put", key: "f", value } as const],
  };
  await assert.rejects(async () => store.take(write("e", true), refused), { code: "STORE_FAILED" });
  assert.equal(await store.get("e"), undefined);
  assert.deepEqual(calls, ["stored a", "stored b", "stored c", "stored d", "undo f", "undo e"]);
});

test("opens its sessions, which are there again after a restart", async (t) => {
  const folder = temporaryFolder(t);
  const before = await Store.open(folder);
  const session = { clientId: "a", expirySeconds: 60, subscriptions: [], sentUpTo: 0 };
  await (await before.sessions()).save(session);
  await before.close();
  const after = await Store.open(folder);
  t.after(() => after.close());
  assert.deepEqual(await (await after.sessions()).load("a"), session);
});

test("what was to be deleted later is deleted before the store closes", async (t) => {
  const folder = temporaryFolder(t);
  const before = await Store.open(folder);
  await before.commit({
    sync: false,
    prepare: () => [{ type: "put", key: "a", value: new Uint8Array([1]) }],
  });
  before.later({ sync: false, prepare: () => [{ type: "del", key: "a" }] });
  await before.close();
  const after = await Store.open(folder);
  t.after(() => after.close());
  assert.equal(await after.get("a"), undefined);
});

test("a read that fails is told as the store's failure, not as LevelDB's", async (t) => {
  const store = await Store.open(temporaryFolder(t));
  await store.close();
  const all = async () => {
    for await (const _ of store.entries({ gte: "a", lt: "z" })) assert.fail("it is closed");
  };
  await assert.rejects(all(), { code: "STORE_FAILED", message: /LevelDB cannot read/ });
});
