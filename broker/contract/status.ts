// status: what a broker says of itself at /status.json, and `sluice status` reads.
// Path: gateway, cloud → status → [document] → cli. Touches: nothing.

export interface StatusDocument {
  readonly role: "gateway" | "cloud";
  readonly name: string;
  readonly version: string;
  readonly startedAtMs: number;
  /** True when clients are served. An outage of the cloud leaves a gateway ready. */
  readonly ready: boolean;
  /** All that is wrong, in an operator's words; a gateway that is ready may have some, too. */
  readonly reasons: readonly string[];
  readonly connections: number;
  readonly outbox?: readonly LaneStatus[];
  readonly uplink?: UplinkStatus;
  readonly ingest?: IngestStatus;
}

export interface LaneStatus {
  readonly lane: string;
  readonly epoch: number;
  /** Last sequence taken into custody; 0 when there was none. */
  readonly lastSeq: number;
  /** Position: last sequence that the cloud is known to hold. */
  readonly position: number;
  /** What waits for the cloud: records, their bytes, and when the oldest was taken. */
  readonly waitingMessages: number;
  readonly waitingBytes: number;
  readonly oldestWaitingAtMs: number | null;
  /** Of late: messages taken into custody, and taken by the cloud. */
  readonly arrivingPerSecond: number;
  readonly leavingPerSecond: number;
  /** What the cloud took and is kept to rewind into. */
  readonly tailMessages: number;
  readonly tailBytes: number;
  readonly bytesMax: number;
  /** null: a message may wait for ever. */
  readonly ageSecondsMax: number | null;
  readonly whenFull: "reject" | "drop_oldest" | "drop_newest";
  /** What messages that did not fit met, of late. */
  readonly trouble: string | null;
  /** Messages that gap records stand for since the outbox was created, by reason. */
  readonly dropped: Readonly<Record<string, number>>;
}

/** Messages of the lane that gap records stand for. */
export function droppedMessages({ dropped }: Pick<LaneStatus, "dropped">): number {
  return Object.values(dropped).reduce((sum, count) => sum + count, 0);
}

export interface UplinkStatus {
  /** Host and port of the landing, without user or password. */
  readonly cloud: string;
  readonly state: "connecting" | "online" | "waiting" | "fenced" | "stopped";
  readonly why: string;
  readonly sinceMs: number;
  readonly sentMessages: number;
  readonly receivedCommands: number;
  readonly rewinds: number;
}

export interface IngestStatus {
  readonly partitionsOwned: number;
  readonly partitions: number;
  /** Dead letters that are kept in the cluster, of all gateways and brokers. */
  readonly deadLetters: number;
  readonly gateways: readonly GatewayStatus[];
}

export interface GatewayStatus {
  readonly gateway: string;
  readonly state: "online" | "offline";
  readonly why: string;
  /** How much older than the landing's newest entry what the cluster has is, by the landing's clock. */
  readonly behindMs: number;
  /** Since this broker took the gateway up, as all that follow: taken into the cluster. */
  readonly ingestedMessages: number;
  /** Had been taken before. */
  readonly repeatedMessages: number;
  /** Gap records stand for them: how many, by reason. */
  readonly missingMessages: Readonly<Record<string, number>>;
  /** Neither came nor were told of. */
  readonly lostMessages: number;
  /** Records and frames that could not be handed on. */
  readonly deadLetters: number;
}
