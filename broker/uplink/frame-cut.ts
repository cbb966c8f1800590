// frame-cut: the frame that is sent of a run of records.
// Path: outbox → [frame-cut] → flight. Touches: nothing.

import { encodeFrame, type Run, type RunRecord } from "#contract/frame";
import {
  decodeGapRecord,
  encodeGap,
  GAP_REASON_EXPIRED,
  isExpired,
  recordExpiresAtMs,
} from "#contract/message";

export interface CutFrame {
  /** The part of the run that the frame holds. */
  readonly run: Run;
  readonly bytes: Uint8Array;
  /** Messages in it, without those that have expired. */
  readonly messages: number;
  readonly expired: number;
}

/**
 * The frame of the run's first records, at most `bytesMax` of them but one. A gap record takes the
 * place of each message that has expired, so that the frame still covers its sequence; the lane
 * keeps what it has.
 */
export function cutFrame(whole: Run, nowMs: number, bytesMax: number): CutFrame {
  const run = firstOf(whole, bytesMax);
  let [messages, expired] = [0, 0];
  const records = run.records.map(({ first, last, record }) => {
    if (decodeGapRecord(record)) return record;
    if (!isExpired(recordExpiresAtMs(record), nowMs)) {
      messages += 1;
      return record;
    }
    expired += 1;
    return encodeGap({ from: first, to: last, count: 1, reason: GAP_REASON_EXPIRED });
  });
  return { run, bytes: encodeFrame(run.firstSeq, records), messages, expired };
}

function firstOf(run: Run, bytesMax: number): Run {
  if (run.bytes <= bytesMax) return run;
  const records: RunRecord[] = [];
  let bytes = 0;
  for (const it of run.records) {
    if (records.length > 0 && bytes + it.record.length > bytesMax) break;
    records.push(it);
    bytes += it.record.length;
  }
  const lastSeq = records.at(-1)?.last ?? run.lastSeq;
  return { firstSeq: run.firstSeq, lastSeq, bytes, records };
}
