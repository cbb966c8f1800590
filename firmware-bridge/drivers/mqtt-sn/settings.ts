// settings: the keys of [links.mqtt-sn].
// Path: mqtt-sn → [settings]. Touches: nothing.

import * as v from "valibot";
import { eachOnce, flag, oneOf, path, text, whole } from "#runtime/settings-values";
import { isTopicName } from "./topics.ts";

const TOPIC_ID_MAX = 65_534;

const Predefined = v.pipe(
  v.array(
    v.strictObject({
      id: whole(1, TOPIC_ID_MAX),
      topic: v.pipe(v.string(), v.check(isTopicName, "allowed: a topic without wildcards")),
    }),
  ),
  eachOnce(({ id }) => id, "allowed: each id once"),
);

const Client = v.pipe(
  v.strictObject({
    client_id: text,
    username: v.optional(text),
    password_file: v.optional(path),
    predefined: v.optional(Predefined, []),
  }),
  v.check(
    (it) => it.password_file === undefined || it.username !== undefined,
    "allowed: password_file beside username only",
  ),
);

export const Settings = v.strictObject({
  gateway_id: v.optional(whole(0, 255), 1),
  advertise_seconds: v.optional(whole(0, 65_535), 0),
  accept: v.optional(oneOf("any", "listed"), "any"),
  publish_without_connection: v.optional(flag(), true),
  clients_max: v.optional(whole(1, 1_000), 64),
  retry_seconds: v.optional(whole(1, 60), 10),
  retries_max: v.optional(whole(0, 10), 4),
  session_seconds: v.optional(whole(1, 4_294_967_295), 604_800),
  topics_max: v.optional(whole(1, 65_534), 256),
  queue_messages_max: v.optional(whole(1, 1_000), 32),
  message_bytes_max: v.optional(whole(16, 65_535), 1_024),
  gap_ms_max: v.optional(whole(10, 10_000), 200),
  predefined: v.optional(Predefined, []),
  clients: v.optional(
    v.pipe(
      v.array(Client),
      eachOnce((it) => it.client_id, "allowed: each client_id once"),
    ),
    [],
  ),
});

export type MqttSnSettings = Readonly<v.InferOutput<typeof Settings>>;
export type PredefinedSettings = MqttSnSettings["predefined"];

/** What each predefined id stands for; the later ones replace the earlier. */
export function predefinedTopics(...all: PredefinedSettings[]): ReadonlyMap<number, string> {
  return new Map(all.flat().map(({ id, topic }) => [id, topic]));
}
