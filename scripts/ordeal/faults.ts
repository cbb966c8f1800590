// faults: what each kind of fault does to the world, until all is as it was before.
// Path: trouble → [faults] → world. Touches: what the world touches.

import { setTimeout as sleep } from "node:timers/promises";
import type { PartName } from "../chain/plans.ts";
import { becomes } from "../chain/ready.ts";
import type { DiskFault, LostAs } from "../disk-shim/disk-shim.ts";
import { Random } from "./random.ts";
import type { FaultName, Planned } from "./schedule.ts";
import type { World } from "./world.ts";

/** A fault that is due: what it hits, for how long, its own chance, and whom it tells of kills. */
export interface Occasion extends Planned {
  readonly world: World;
  readonly random: Random;
  readonly killed: (part: PartName) => void;
}

const RESTART_MS_MAX = 10_000;
const SLOW_MS = { least: 500, more: 3_000 } as const;
const LAG_MS_MORE = 3_000;
const BYTES_LEFT_MORE = 20_000;
const DISK_FAULTS = ["full", "io", "readonly"] as const satisfies readonly DiskFault[];
const LOSSES = ["missing", "zeros"] as const satisfies readonly LostAs[];

const BY_NAME: Readonly<Record<FaultName, (occasion: Occasion) => Promise<void>>> = {
  kill: (occasion) => kill(occasion, occasion.target),
  slow,
  "fail-over": failOver,
  reload,
  outage,
  full,
  "power-cut": (occasion) => cutPower(occasion, occasion.target, occasion.random.pick(LOSSES)),
  // Redis does not start on an append-only file whose end is zeros: it asks for redis-check-aof.
  "landing-power-cut": (occasion) => {
    return cutPower(occasion, occasion.world.landings.master, "missing");
  },
  away,
};

/** Resolves when the fault is over; what it broke may still be coming back. */
export function inflict(world: World, planned: Planned, killed: Occasion["killed"]): Promise<void> {
  const random = new Random(planned.seed);
  return BY_NAME[planned.fault]({ ...planned, world, random, killed });
}

/** kill -9; the part is started again a second later, as systemd would. */
async function kill({ world, killed }: Occasion, target: PartName): Promise<void> {
  const part = world.chain.part(target);
  const pid = part.pid;
  // One that is just being started again is dead enough.
  if (pid === undefined) return;
  part.kill();
  await part.waitForExit();
  killed(target);
  await becomes(async () => part.pid !== undefined && part.pid !== pid, RESTART_MS_MAX);
}

async function slow(occasion: Occasion): Promise<void> {
  const { world, target, lastsMs, random } = occasion;
  const part = target === "landing" ? world.landings.master : target;
  const shim = world.shim(part);
  shim.set({ slowMs: SLOW_MS.least + random.int(SLOW_MS.more) });
  await sleep(lastsMs);
  if (random.once(2)) await kill(occasion, part);
  shim.set({});
}

async function failOver({ world, lastsMs, random, killed }: Occasion): Promise<void> {
  killed(world.landings.master);
  await world.landings.failOver(random.int(LAG_MS_MORE), lastsMs);
}

async function reload({ world }: Occasion): Promise<void> {
  world.chain.part("haproxy").kill("SIGUSR2");
}

async function outage({ world, lastsMs }: Occasion): Promise<void> {
  await world.chain.networkOff();
  await sleep(lastsMs);
  await world.chain.networkOn();
}

async function full(occasion: Occasion): Promise<void> {
  const { world, target, lastsMs, random } = occasion;
  const shim = world.shim(target);
  shim.set({ fault: random.pick(DISK_FAULTS), bytesLeft: random.int(BYTES_LEFT_MORE) });
  await sleep(lastsMs);
  // Started on such a disk, it fails again and again until there is room.
  if (random.once(3)) await kill(occasion, target);
  shim.set({});
}

async function cutPower(occasion: Occasion, target: PartName, lostAs: LostAs): Promise<void> {
  const { world, lastsMs, random, killed } = occasion;
  const part = world.chain.part(target);
  await part.stop("SIGKILL");
  killed(target);
  world.shim(target).cutPower((below) => random.int(below), lostAs);
  await sleep(lastsMs);
  await part.start();
}

async function away({ world, target, lastsMs }: Occasion): Promise<void> {
  const session = world.session(target);
  await session.leave();
  await sleep(lastsMs);
  await session.come();
}
