// session-document: the bytes in which a session is stored.
// Path: sessions → [session document] → store. Touches: nothing.

import * as v from "valibot";
import { ByteReader, varintBytes, writeVarint } from "#contract/bytes";
import { SluiceError } from "#contract/errors";
import { encodeMessage } from "#contract/message";
import type { StoredSession } from "#contract/session";
import { messageOf } from "./queue-entry.ts";

/** What of a document must be known of every session, without reading it whole. */
export interface Place {
  /** The number under which its queue lies; a later session of the same name has another. */
  readonly queueId: number;
  readonly sentUpTo: number;
}

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));

/** The part that is JSON; the will's message is bytes, and stands behind it. */
const DocumentSchema = v.strictObject({
  clientId: v.string(),
  user: v.exactOptional(v.string()),
  certificateName: v.exactOptional(v.string()),
  expirySeconds: count,
  subscriptions: v.array(
    v.strictObject({
      filter: v.string(),
      qos: v.picklist([0, 1, 2]),
      noLocal: v.boolean(),
      retainAsPublished: v.boolean(),
      retainHandling: v.picklist([0, 1, 2]),
      id: v.exactOptional(count),
    }),
  ),
  willTimes: v.exactOptional(
    v.strictObject({ delaySeconds: count, expirySeconds: v.exactOptional(count) }),
  ),
  connectedTo: v.exactOptional(v.string()),
  awaySinceMs: v.exactOptional(v.number()),
});

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The queue's number, how far it was sent, length of the JSON, JSON, the will's record if any. */
export function encodeDocument(session: StoredSession, queueId: number): Uint8Array {
  const { will, sentUpTo, ...rest } = session;
  const { message, ...willTimes } = will ?? {};
  const json = encoder.encode(JSON.stringify(message ? { ...rest, willTimes } : rest));
  const record = message ? encodeMessage(message) : new Uint8Array();
  const head = [queueId, sentUpTo, json.length];
  const headBytes = head.reduce((sum, number) => sum + varintBytes(number), 0);
  const bytes = new Uint8Array(headBytes + json.length + record.length);
  let at = 0;
  for (const number of head) at = writeVarint(bytes, at, number);
  bytes.set(json, at);
  bytes.set(record, at + json.length);
  return bytes;
}

/** @throws SluiceError FRAME_INVALID when the bytes are no document. */
export function decodePlace(bytes: Uint8Array): Place {
  return placeFrom(new ByteReader(bytes));
}

/** @throws SluiceError FRAME_INVALID when the bytes are no document. */
export function decodeDocument(bytes: Uint8Array): StoredSession {
  const reader = new ByteReader(bytes);
  const { sentUpTo } = placeFrom(reader);
  const { willTimes, ...rest } = parsed(reader.take(reader.varint()));
  if (willTimes === undefined) {
    if (reader.left === 0) return { ...rest, sentUpTo };
    throw new SluiceError("FRAME_INVALID", `has ${reader.left} bytes too many`);
  }
  const message = messageOf(reader.take(reader.left));
  return { ...rest, will: { message, ...willTimes }, sentUpTo };
}

function placeFrom(reader: ByteReader): Place {
  return { queueId: reader.varint(), sentUpTo: reader.varint() };
}

function parsed(json: Uint8Array): v.InferOutput<typeof DocumentSchema> {
  try {
    return v.parse(DocumentSchema, JSON.parse(decoder.decode(json)));
  } catch (cause) {
    throw new SluiceError("FRAME_INVALID", "holds no session", { cause });
  }
}
