// cloud: the wiring of role cloud.
// Path: main → [cloud] → mqtt, cluster, ingest, status. Touches: what those touch.

import assert from "node:assert";
import { randomUUID } from "node:crypto";
import type { Custody } from "#contract/session";
import type { StatusDocument } from "#contract/status";
import { isFromTopic, isToTopic } from "#contract/topics";
import { wait } from "#runtime/backoff";
import { readSecret, readTlsFiles } from "#runtime/files";
import type { Log } from "#runtime/log";
import { Metrics } from "#runtime/metrics";
import { openNotify } from "#runtime/notify";
import type { Service } from "#runtime/process";
import type { RedisSettings, Settings } from "#runtime/settings-schema";
import { VERSION } from "#runtime/version";
import { Cluster } from "./cluster/cluster.ts";
import { Ingest, type IngestOptions } from "./ingest/ingest.ts";
import { Mqtt } from "./mqtt/mqtt.ts";
import { queueLimits } from "./queue-limits.ts";
import { startStatus } from "./status/status.ts";

/** How long the goodbye to clients and to the cluster Redis may take. */
const CLOSE_MS_MAX = 3_000;

export async function startCloud(settings: Settings, log: Log): Promise<Service> {
  const metrics = new Metrics();
  const startedAtMs = Date.now();
  const landing = withUsableFiles(settings.landing);
  const clusterSettings = withUsableFiles(settings.cluster);

  const missing = metrics.counter(
    "sluice_queue_missing_total",
    "Messages for a kept session that was gone.",
  );
  const cluster = new Cluster({
    settings: clusterSettings,
    sessions: { ...queueLimits(settings, metrics), missing: () => missing() },
    log,
    metrics,
  });
  let mqtt: Mqtt | undefined;
  // They may be read again before there is a broker to apply them to.
  let current = settings;
  const ingest = new Ingest({
    landing,
    cluster: clusterSettings,
    settings: settings.ingest,
    ...outletOf(() => mqtt),
    log,
    metrics,
  });

  const document = (): StatusDocument => ({
    role: "cloud",
    name: settings.name,
    version: VERSION,
    startedAtMs,
    ready: mqtt !== undefined && cluster.unavailable() === undefined,
    reasons: reasonsOf(cluster, ingest),
    connections: mqtt?.connections ?? 0,
    ingest: ingest.status(),
  });
  // Up before Redis is, so that the status can say what is waited for.
  const status = await startStatus({ address: settings.status.address, metrics, log, document });
  const notify = await openNotify(() => true);
  notify.ready();

  const { sessions } = cluster;
  const serving = cluster.connected().then(async () => {
    mqtt = await Mqtt.start({
      settings: current,
      // New with each process: what other brokers know of its past is not about this one.
      brokerId: randomUUID(),
      store: sessions,
      custody: custodyOf(ingest, sessions),
      emitter: cluster.emitter,
      refusal,
      unavailable: () => cluster.unavailable(),
      unwell: () => cluster.unwell(),
      log,
      metrics,
    });
    cluster.onLost((why) => mqtt?.disconnectAll(why));
    cluster.onBack(async () => mqtt?.readAnew());
    log.info({ listeners: mqtt.addresses, status: status.address }, "ready");
    await ingest.run();
  });
  return {
    running: serving,
    reload(applied) {
      current = applied;
      mqtt?.reload(applied);
    },
    async stop() {
      notify.stopping();
      await ingest.stop();
      // Without the cluster Redis its emitter would wait for ever to say goodbye.
      await Promise.race([mqtt?.close(), wait(CLOSE_MS_MAX)]);
      cluster.close();
      await status.close();
      notify.close();
    },
  };
}

/** How ingest hands on to the broker, which is there when it runs. */
function outletOf(mqtt: () => Mqtt | undefined): Pick<IngestOptions, "publisher" | "hold"> {
  const publisher = () =>
    mqtt()?.publisher() ?? assert.fail("ingest runs before there is a broker");
  return { publisher, hold: () => mqtt()?.hold() };
}

function reasonsOf(cluster: Cluster, ingest: Ingest): string[] {
  const waiting = [cluster.unavailable(), ingest.unavailable()];
  return [...waiting.filter((why) => why !== undefined), ...ingest.warnings()];
}

/** A command is ours when the landing has it, all else when the cluster Redis has. */
function custodyOf(ingest: Ingest, sessions: Cluster["sessions"]): Custody {
  return {
    take(taking) {
      if (!isToTopic(taking.message.topic)) return sessions.take(taking);
      return ingest.takeCommand(taking.message).then(() => sessions.take(taking) ?? "taken");
    },
    queue: (message, queues) => sessions.takeAlso(message, queues),
  };
}

/** Clients hear what gateways said, and do not say it. */
function refusal(use: "publish" | "subscribe", topic: string): string | undefined {
  if (use === "subscribe" || !isFromTopic(topic)) return undefined;
  return "from/… is what gateways said; only they say it";
}

/** Files that cannot be used end the start; later they are read anew at each connect. */
function withUsableFiles(settings: RedisSettings | undefined): RedisSettings {
  assert(settings, "the settings' check asks for [landing] and [cluster] in role cloud");
  readTlsFiles(settings);
  if (settings.password_file) readSecret(settings.password_file);
  return settings;
}
