// errors: the one class for failures that are expected, and what their codes mean.
// Path: used everywhere. Touches: nothing.

/** What went wrong, as a program may test it. The message is for people. */
export type ErrorCode =
  | "ACCESS_DENIED" // the peer's name, password or right was refused
  | "BRIDGE_UNREACHABLE" // the firmware-bridge does not answer the operator's command
  | "BROKER_UNREACHABLE" // a broker does not answer the operator's command
  | "CERTIFICATE_UNREADABLE" // a certificate, key or secret file cannot be used
  | "CLOUD_FENCED" // another box writes to the cloud as this gateway
  | "CLOUD_FULL" // the landing has no room for more of this gateway
  | "CLOUD_UNREACHABLE" // the landing or the cluster Redis does not answer
  | "DATA_HELD" // another process holds the data folder
  | "FLASH_FAILED" // a programmer did not bring an image onto a device
  | "FLASH_REFUSED" // an image may not, or cannot, be flashed; nothing was touched
  | "FRAME_INVALID" // bytes that are no frame, or no record
  | "LINK_FAILED" // a serial port cannot be opened or broke
  | "LISTEN_FAILED" // an address cannot be listened on
  | "MEMORY_FAILED" // what a driver must know after a restart cannot be written
  | "OUTBOX_FULL" // an append over the lane's limit
  | "PACKET_TOO_LARGE" // an MQTT packet that is longer than its connection may send
  | "PROXY_INVALID" // bytes that are no PROXY v2 header
  | "RETAINED_FULL" // a retained message over the limit of all of them
  | "SESSION_MOVED" // the session's client is connected to another broker by now
  | "SETTINGS_INVALID" // the settings cannot be used as they are
  | "STORE_FAILED" // LevelDB refused a read or a write
  | "TOPIC_INVALID" // a topic name or filter outside MQTT 3.1.1 clause 4.7
  | "USAGE"; // the command line cannot be understood

/** A failure that Sluice expects: a code to test, a message that names thing, place and mend. */
export class SluiceError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = "SluiceError";
    this.code = code;
  }
}

/** The message of whatever was thrown, on one line. */
export function reasonOf(thrown: unknown): string {
  // What node:net throws when a name has several addresses has no message of its own.
  if (thrown instanceof AggregateError && thrown.message === "") {
    return thrown.errors.map(reasonOf).join("; ");
  }
  const text = thrown instanceof Error ? thrown.message || thrown.name : String(thrown);
  return text.replace(/\s*\n\s*/g, "; ");
}
