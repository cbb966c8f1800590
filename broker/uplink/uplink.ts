// uplink: the gateway's way to the cloud and back: one sender, one downlink.
// Path: outbox → [uplink] → landing Redis, and back → mqtt. Touches: the network, through landing.

import type { UplinkStatus } from "#contract/status";
import { wait } from "#runtime/backoff";
import { steadyNowMs } from "#runtime/clock";
import type { Log } from "#runtime/log";
import type { Metrics } from "#runtime/metrics";
import type { UplinkSettings } from "#runtime/settings-schema";
import { Downlink, type DownlinkOptions } from "./downlink.ts";
import { Landing } from "./landing.ts";
import type { SendLane } from "./send-lane.ts";
import { Sender } from "./sender.ts";

export interface UplinkOptions {
  readonly settings: UplinkSettings;
  readonly gateway: string;
  readonly lanes: readonly SendLane[];
  readonly commands: Pick<DownlinkOptions, "cursor" | "deliver" | "answer">;
  readonly log: Log;
  readonly metrics: Metrics;
}

export interface Uplink {
  status(): UplinkStatus;
  stop(): Promise<void>;
}

const STOP_MS_MAX = 2_000;

/** Starts both directions; they connect, and connect again, by themselves. */
export function startUplink(options: UplinkOptions): Uplink {
  const { settings, gateway, log, metrics } = options;
  const urls = [settings.url].flat();
  const downlink = new Downlink({
    urls,
    connect: (url) => Landing.connect({ ...settings, url }, gateway),
    ...options.commands,
    clock: steadyNowMs,
    log,
    metrics,
  });
  const held = Promise.withResolvers<void>();
  const sender = new Sender({
    lanes: options.lanes,
    urls,
    connect: (url, lost) => Landing.connect({ ...settings, url }, gateway, lost),
    probeMs: settings.probe_seconds * 1_000,
    windowFramesMax: settings.window_frames_max,
    bytesPerSecondMax: settings.bytes_per_second_max,
    downCursor: () => downlink.cursor,
    holdsLanes: held.resolve,
    clock: steadyNowMs,
    log,
    metrics,
  });
  // A box that is fenced off does not carry out the commands of the one that is not, nor does one
  // that may turn out to be.
  const sending = sender.run().then(() => {
    downlink.stop();
    held.resolve();
  });
  const running = Promise.all([sending, held.promise.then(() => downlink.run())]);
  return {
    status: () => ({
      ...sender.status(),
      receivedCommands: metrics.total("sluice_downlink_commands_total"),
    }),
    async stop() {
      sender.stop();
      downlink.stop();
      // One that is just connecting to nowhere ends with the process.
      await Promise.race([running, wait(STOP_MS_MAX)]);
    },
  };
}
