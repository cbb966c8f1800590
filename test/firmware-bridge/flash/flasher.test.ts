// flasher.test: what a flash runs, with what, and what becomes of it, by programs that are real.
// Path: test. Touches: temporary folders, child processes.

import assert from "node:assert/strict";
import { generateKeyPairSync, sign } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { relative } from "node:path";
import { test } from "node:test";
import { SluiceError } from "#contract/errors";
import { programmerOf } from "../../../firmware-bridge/flash/programmer.ts";
import { waitFor } from "../../support/wait-for.ts";
import { AVRDUDE_BAD, AVRDUDE_GOOD, IMAGE } from "./avrdude-output.ts";
import { AVRDUDE, flasherOf, StandIn } from "./stand-in.ts";

const UNSIGNED = { bytes: IMAGE, signature: undefined };

test("runs avrdude on the lent port and tells each step to its end", async (t) => {
  const { flasher, standIn, lent, events, tell } = flasherOf(t);
  standIn.install("avrdude", AVRDUDE_GOOD, "exit 0");
  await flasher.flash("box", UNSIGNED, tell);
  const [first, ...others] = events;
  assert.equal(first?.state, "accepted");
  assert.equal(others.pop()?.state, "done");
  assert.ok(others.every(({ state }) => state === "progress"));
  assert.deepEqual(others.at(-1), {
    state: "progress",
    link: "box",
    step: "verifying",
    percent: 100,
  });
  assert.deepEqual(lent, ["kept", "back"]);
});

test("gives the program these arguments and no others, and the image by name", async (t) => {
  const { flasher, standIn, tell } = flasherOf(t);
  standIn.install("avrdude", [], "exit 0");
  await flasher.flash("box", UNSIGNED, tell);
  const expected = "-c arduino -p m328p -b 57600 -P /dev/ttyUSB0 -D -U flash:w:image.hex:i".split(
    " ",
  );
  assert.deepEqual(standIn.saw("args").trim().split("\n"), expected);
  assert.equal(standIn.saw("image"), IMAGE.toString());
});

test("runs it in a private folder that is gone afterwards, without our environment", async (t) => {
  const { flasher, standIn, tell } = flasherOf(t);
  standIn.install("avrdude", [], "exit 0");
  process.env.SLUICE_TEST_SECRET = "secret";
  await flasher.flash("box", UNSIGNED, tell);
  delete process.env.SLUICE_TEST_SECRET;
  const folder = standIn.saw("cwd").trim();
  assert.equal(standIn.saw("modes"), "700\n600\n");
  assert.ok(!existsSync(folder));
  const names = [...standIn.saw("env").matchAll(/^(\w+)=/gm)].map(([, name]) => name);
  // The shell adds its own.
  const expected = ["HOME", "LC_ALL", "PATH", "PWD", "PYTHONUNBUFFERED"];
  assert.deepEqual(
    names.filter((name) => name !== "OLDPWD" && name !== "_" && name !== "SHLVL"),
    expected,
  );
  assert.match(standIn.saw("env"), new RegExp(`^HOME=${folder}$`, "m"));
});

test("erases the chip but where a boot loader would have to erase itself", () => {
  const has = (protocol: typeof AVRDUDE.protocol) =>
    programmerOf({ ...AVRDUDE, protocol })
      .args("/dev/x")
      .includes("-D");
  assert.ok(has("arduino") && has("wiring") && has("urclock"));
  assert.ok(!has("serialupdi") && !has("stk500v2"));
});

test("runs esptool with the address in hex, and without our lock, as it takes one", async (t) => {
  const esptool = { ...AVRDUDE, programmer: "esptool", chip: "esp32c3", offset: 0x1_0000 } as const;
  const locks: string[] = [];
  const { flasher, standIn, events, tell } = flasherOf(t, {
    links: new Map([
      [
        "box",
        {
          programmer: programmerOf(esptool),
          lend: (use, lock) => use("/dev/ttyUSB0").finally(() => locks.push(lock)),
        },
      ],
    ]),
  });
  standIn.install("esptool", ["Writing at 0x00010000... (100 %)\n"], "exit 0");
  await flasher.flash("box", { bytes: Buffer.from([0xe9, 1]), signature: undefined }, tell);
  const expected =
    "--chip esp32c3 --port /dev/ttyUSB0 --baud 57600 --before default_reset --after hard_reset " +
    "write_flash 0x10000 image.bin";
  assert.deepEqual(standIn.saw("args").trim().split("\n"), expected.split(" "));
  assert.deepEqual(locks, ["released"]);
  assert.deepEqual(
    events.map(({ state }) => state),
    ["accepted", "progress", "done"],
  );
});

test("reads a programmer that prints byte by byte to its end", async (t) => {
  const { flasher, standIn, events, tell } = flasherOf(t);
  standIn.install("avrdude", AVRDUDE_GOOD.join("").split(""), "exit 0");
  await flasher.flash("box", UNSIGNED, tell);
  const steps = events.map((it) =>
    it.state === "progress" ? `${it.step} ${it.percent}` : it.state,
  );
  for (const step of ["writing 100", "verifying 100", "done"])
    assert.ok(steps.includes(step), step);
});

test("fails with the programmer's own words, which the link hears too", async (t) => {
  const heard: unknown[] = [];
  const { flasher, standIn, events, tell } = flasherOf(t, {
    links: new Map([
      [
        "box",
        {
          programmer: programmerOf(AVRDUDE),
          lend: (use) =>
            use("/dev/ttyUSB0").catch((fault) => {
              heard.push(fault);
              throw fault;
            }),
        },
      ],
    ]),
  });
  standIn.install("avrdude", [AVRDUDE_BAD], "exit 1");
  await flasher.flash("box", UNSIGNED, tell);
  const reason =
    "avrdude ended with code 1: " +
    "avrdude: stk500_getsync() attempt 9 of 10: not in sync: resp=0x00; " +
    "avrdude: stk500_getsync() attempt 10 of 10: not in sync: resp=0x00; " +
    "avrdude error: unable to open programmer arduino on port /dev/ttyUSB0";
  assert.deepEqual(events.at(-1), { state: "failed", link: "box", reason });
  assert.ok(heard[0] instanceof SluiceError && heard[0].code === "FLASH_FAILED");
  assert.equal(heard[0].message, reason);
});

test("ends a program that takes too long, and whatever that had started", async (t) => {
  const { flasher, standIn, events, tell } = flasherOf(t, { secondsMax: 0.3 });
  standIn.install("avrdude", ["avrdude: waiting"], "trap '' TERM; sleep 60 & wait; sleep 60");
  await flasher.flash("box", UNSIGNED, tell);
  assert.deepEqual(events.at(-1), {
    state: "failed",
    link: "box",
    reason: "avrdude took longer than flash_seconds_max = 0.3: avrdude: waiting",
  });
  await assertGone(Number(standIn.saw("pid")));
});

test("ends the program when the bridge stops, and says so", async (t) => {
  const { flasher, standIn, events, tell } = flasherOf(t);
  standIn.install("avrdude", [], "exec sleep 60");
  const flashed = flasher.flash("box", UNSIGNED, tell);
  await waitFor("the program", () => standIn.hasRun);
  await flasher.stop();
  await assertGone(Number(standIn.saw("pid")));
  await flashed;
  assert.deepEqual(events.at(-1), {
    state: "failed",
    link: "box",
    reason: "avrdude was ended: the firmware-bridge was stopped; flash the device again",
  });
});

/** Nobody of the program's group runs, though init may not have buried them all (proc(5)). */
async function assertGone(group: number): Promise<void> {
  const stat = (pid: string) => {
    try {
      return readFileSync(`/proc/${pid}/stat`, "utf8")
        .replace(/^.*\) /s, "")
        .split(" ");
    } catch {
      return [];
    }
  };
  await waitFor("the programs to be gone", () => {
    const stats = readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name))
      .map(stat);
    return stats.every(([state, , its]) => Number(its) !== group || state === "Z");
  });
}

test("flashes a link once at a time, and again afterwards", async (t) => {
  const { flasher, standIn, events, tell } = flasherOf(t);
  standIn.install("avrdude", [], `while [ ! -e ${standIn.folder}/go ]; do sleep 0.02; done`);
  const first = flasher.flash("box", UNSIGNED, tell);
  await waitFor("the program", () => standIn.hasRun);
  const refusals: unknown[] = [];
  await flasher.flash("box", UNSIGNED, (event) => refusals.push(event));
  const reason = "link box is being flashed; wait for its end";
  assert.deepEqual(refusals, [{ state: "refused", link: "box", reason }]);
  standIn.install("avrdude", [], "exit 0");
  process.kill(-Number(standIn.saw("pid")), "SIGKILL");
  await first;
  assert.match(JSON.stringify(events.at(-1)), /avrdude ended with SIGKILL/);
  await flasher.flash("box", UNSIGNED, tell);
  assert.equal(events.at(-1)?.state, "done");
});

test("touches nothing when the image may not be flashed, and says why", async (t) => {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const { flasher, standIn, lent, tell, events } = flasherOf(t, { key: publicKey });
  standIn.install("avrdude", AVRDUDE_GOOD, "exit 0");
  const good = sign(null, IMAGE, privateKey);
  const noHex = Buffer.from("\x7fELF");
  const cases = [
    ["box", IMAGE, undefined, "the image has no signature, and public_key_file wants one"],
    [
      "box",
      Buffer.concat([IMAGE, Buffer.from("\n")]),
      good,
      "the signature is not of this image by the key in public_key_file",
    ],
    [
      "box",
      noHex,
      sign(null, noHex, privateKey),
      "this is no image for avrdude: it is no Intel HEX file",
    ],
    ["bix", IMAGE, good, 'no link "bix" has a table [links.flash]; those that do: box'],
  ] as const;
  for (const [link, bytes, signature, reason] of cases) {
    await flasher.flash(link, { bytes, signature }, tell);
    assert.deepEqual(events.splice(0), [{ state: "refused", link, reason }]);
  }
  assert.deepEqual(lent, []);
  assert.ok(!standIn.hasRun);
  await flasher.flash("box", { bytes: IMAGE, signature: good }, tell);
  assert.equal(events.at(-1)?.state, "done");
});

test("names the Debian package of a program that is missing, before the port is touched", async (t) => {
  // What is searched for must not depend on the folder that somebody started the bridge in.
  const folder = new StandIn(t);
  folder.install("avrdude", [], "exit 0");
  const searchPath = `/nowhere:${relative(process.cwd(), folder.folder)}`;
  const { flasher, lent, events, tell } = flasherOf(t, { searchPath });
  await flasher.flash("box", UNSIGNED, tell);
  const reason = "avrdude is not installed; install it: apt-get install avrdude";
  assert.deepEqual(events, [{ state: "refused", link: "box", reason }]);
  assert.deepEqual(lent, []);
});

test("refuses, with the link's words, when there is no port to lend", async (t) => {
  const { flasher, standIn, events, tell } = flasherOf(t, {
    links: new Map([
      [
        "box",
        {
          programmer: programmerOf(AVRDUDE),
          lend: () => Promise.reject(new SluiceError("LINK_FAILED", "/dev/x is not there")),
        },
      ],
    ]),
  });
  standIn.install("avrdude", [], "exit 0");
  await flasher.flash("box", UNSIGNED, tell);
  const reason = "/dev/x is not there";
  assert.deepEqual(events.at(-1), { state: "refused", link: "box", reason });
});

test("ends with the programmer, whoever it left behind with its output in hand", async (t) => {
  const { flasher, standIn, events, tell } = flasherOf(t);
  const left = "setsid sh -c 'echo $$ > left; exec sleep 30' &\nuntil [ -s left ]; do :; done";
  standIn.install("avrdude", [], `${left}\ncp left "${standIn.folder}/left"; exit 0`);
  const startedMs = performance.now();
  await flasher.flash("box", UNSIGNED, tell);
  const tookMs = performance.now() - startedMs;
  process.kill(Number(readFileSync(`${standIn.folder}/left`, "utf8")), "SIGKILL");
  assert.equal(events.at(-1)?.state, "done");
  assert.ok(tookMs < 10_000, `${tookMs} ms`);
});

test("leaves nothing behind of what the programmer started", async (t) => {
  const { flasher, standIn, tell } = flasherOf(t);
  const left = `sleep 30 >/dev/null 2>&1 & echo $! > "${standIn.folder}/left"`;
  standIn.install("avrdude", [], `${left}\nexit 0`);
  await flasher.flash("box", UNSIGNED, tell);
  const pid = Number(readFileSync(`${standIn.folder}/left`, "utf8"));
  const isGone = () => !existsSync(`/proc/${pid}/fd/0`);
  await waitFor("the end of what it left", isGone);
});

test("has time for others while a programmer prints without end", async (t) => {
  const { flasher, standIn, events, tell } = flasherOf(t, { secondsMax: 2 });
  standIn.install("avrdude", [], "exec yes 'Writing | ## | 4%'");
  const usedBefore = process.cpuUsage();
  const startedMs = performance.now();
  await flasher.flash("box", UNSIGNED, tell);
  const { user, system } = process.cpuUsage(usedBefore);
  const share = (user + system) / 1_000 / (performance.now() - startedMs);
  assert.equal(events.at(-1)?.state, "failed");
  t.diagnostic(`${(100 * share).toFixed(0)} % of a core`);
  assert.ok(share < 0.3, `${(100 * share).toFixed(0)} % of a core`);
});
