// link-metrics: the metrics of links and devices, read off the document at each look.
// Path: document → [link-metrics] → metrics. Touches: nothing.

import type { DeviceStatus, LinkState, LinkStatus } from "#contract/links";
import type { Labels, Metrics } from "#runtime/metrics";

const STATES: readonly LinkState[] = ["absent", "opening", "up", "failing", "lent", "stopped"];

interface Family<T> {
  /** Behind the prefix, which says of what it is. */
  readonly name: string;
  readonly type: "counter" | "gauge";
  readonly help: string;
  /** null: it is not told of this one. */
  readonly value: (it: T) => number | null;
}

function family<T>(
  type: Family<T>["type"],
  name: string,
  help: string,
  value: Family<T>["value"],
): Family<T> {
  return { name, type, help, value };
}

const LINK_FAMILIES: readonly Family<LinkStatus>[] = [
  family("gauge", "state_since_seconds", "When the link's state began, Unix time.", (it) =>
    seconds(it.sinceMs),
  ),
  family("gauge", "heard_seconds", "When the link's last byte came, Unix time.", (it) =>
    it.heardAtMs === null ? null : seconds(it.heardAtMs),
  ),
  family("counter", "received_bytes_total", "Bytes that came from the link.", (it) => it.bytesIn),
  family("counter", "sent_bytes_total", "Bytes that were written to it.", (it) => it.bytesOut),
  family("counter", "frames_total", "Frames that its driver understood.", (it) => it.frames),
  family("counter", "faults_total", "Frames that it did not understand.", (it) => it.faults),
  family("counter", "opens_total", "Openings of the link.", (it) => it.opens),
  family("counter", "disconnects_total", "Ends of it that nobody asked for.", (it) => {
    return it.disconnects;
  }),
  family("counter", "errors_total", "Openings and links that failed.", (it) => it.errors),
  family("counter", "overrun_bytes_total", "Bytes lost before they could be read.", (it) => {
    return it.overruns;
  }),
  family("counter", "dropped_total", "Datagrams for which there was no room.", (it) => it.dropped),
  family("counter", "held_back_seconds_total", "For how long its port had to wait.", (it) =>
    seconds(it.heldBackMs),
  ),
];

const DEVICE_FAMILIES: readonly Family<DeviceStatus>[] = [
  family("gauge", "online", "1 where the device is there.", (it) => Number(it.online)),
  family("counter", "messages_total", "Messages that drivers gave.", (it) => it.messages),
  family("counter", "acknowledged_total", "Messages that the broker took.", (it) => {
    return it.acknowledged;
  }),
  family("counter", "refused_total", "Messages that it refused for good.", (it) => it.refused),
  family("counter", "policy_dropped_total", "Messages that a channel's policy kept back.", (it) => {
    return it.droppedByPolicy;
  }),
  family("counter", "no_room_dropped_total", "Messages lost while too many waited.", (it) => {
    return it.droppedWithoutRoom;
  }),
  family("gauge", "unacknowledged", "Messages that wait to be acknowledged.", (it) => {
    return it.unacknowledged;
  }),
];

/** Adds them; `links` is asked anew for each. */
export function registerLinkMetrics(metrics: Metrics, links: () => readonly LinkStatus[]): void {
  metrics.gauges("sluice_link_state", "1 for the state that the link is in.", () =>
    links().flatMap(({ link, state }) =>
      STATES.map((it) => [{ link, state: it }, Number(it === state)] as const),
    ),
  );
  for (const it of LINK_FAMILIES) register(metrics, "sluice_link", it, () => links().map(linkOf));
  const devices = () => links().flatMap((it) => it.devices);
  for (const it of DEVICE_FAMILIES) {
    register(metrics, "sluice_device", it, () => devices().map(deviceOf));
  }
  metrics.counters("sluice_device_commands_total", "Commands, by what became of them.", () =>
    devices().flatMap(({ device, commands }) =>
      Object.entries(commands).map(([outcome, count]) => [{ device, outcome }, count] as const),
    ),
  );
}

function linkOf(it: LinkStatus): readonly [Labels, LinkStatus] {
  return [{ link: it.link }, it];
}

function deviceOf(it: DeviceStatus): readonly [Labels, DeviceStatus] {
  return [{ device: it.device }, it];
}

function register<T>(
  metrics: Metrics,
  prefix: string,
  { type, name, help, value }: Family<T>,
  all: () => readonly (readonly [Labels, T])[],
): void {
  const read = () =>
    all().flatMap(([labels, it]) => {
      const number = value(it);
      return number === null ? [] : [[labels, number] as const];
    });
  if (type === "counter") metrics.counters(`${prefix}_${name}`, help, read);
  else metrics.gauges(`${prefix}_${name}`, help, read);
}

function seconds(ms: number): number {
  return ms / 1_000;
}
