// reload.test: what of changed settings is applied to a process that runs, and what is named.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { reloadable } from "#runtime/reload";
import { parseSettings } from "#runtime/settings";

const settings = (text: string) => parseSettings(`role = "gateway"\nname = "gw"\n${text}`, "test");

const TLS = `[[listeners]]
protocol = "mqtts"
address = "127.0.0.1:8883"
cert_file = "/a.crt"
key_file = "/a.key"
`;

test("applies nothing and names nothing where nothing changed", () => {
  const before = settings(TLS);
  const { applied, needsRestart } = reloadable(before, settings(TLS));
  assert.deepEqual(applied, before);
  assert.deepEqual(needsRestart, []);
});

test("applies access, the log level and what a listener has besides its address", () => {
  const after = settings(`
[log]
level = "debug"
[access]
anonymous = "never"
users_file = "/other"
[[access.rights]]
publish = ["a"]
${TLS.replaceAll("/a.", "/b.")}ca_file = "/ca.crt"
proxy = true
origins = ["*"]`);
  const { applied, needsRestart } = reloadable(settings(TLS), after);
  assert.deepEqual(applied, after);
  assert.deepEqual(needsRestart, []);
  assert.ok(Object.isFrozen(applied) && Object.isFrozen(applied.listeners));
});

test("names each changed key that needs a restart, and applies it not", () => {
  const before = settings('[[links]]\npath = "/dev/a"\n[[links]]\npath = "/dev/b"');
  const after = settings(`data = "/other"
[limits]
packet_bytes_max = 1000
[uplink]
url = "redis://x"
[[links]]
path = "/dev/a"
[[links]]
path = "/dev/b"
baud_rate = 9600
[access]
anonymous = "all"`);
  const { applied, needsRestart } = reloadable(before, after);
  assert.deepEqual(needsRestart.toSorted(), [
    "data",
    "limits.packet_bytes_max",
    "links[1].baud_rate",
    "uplink",
  ]);
  assert.deepEqual(applied, { ...before, access: after.access });
});

test("keeps the listeners that it has: others open and close with a restart", () => {
  const before = settings(TLS);
  const moved = reloadable(before, settings(TLS.replace(":8883", ":8884")));
  assert.deepEqual(moved.applied, before);
  assert.deepEqual(moved.needsRestart, ["listeners[0].address"]);
  const renewed = TLS.replaceAll("/a.", "/b.");
  const more = reloadable(
    before,
    settings(`[[listeners]]\nprotocol = "ws"\naddress = "[::1]:1"\n${renewed}`),
  );
  assert.deepEqual(more.applied, settings(renewed));
  assert.deepEqual(more.needsRestart, ["listeners"]);
});
