// reason-codes: MQTT 5.0's reason codes (§2.4), and what 3.x says instead.
// Path: wire, session, connection. Touches: nothing.

export const REASON = {
  success: 0x00,
  disconnectWithWill: 0x04,
  noMatchingSubscribers: 0x10,
  noSubscriptionExisted: 0x11,
  continueAuthentication: 0x18,
  reAuthenticate: 0x19,
  unspecified: 0x80,
  malformedPacket: 0x81,
  protocolError: 0x82,
  implementationSpecific: 0x83,
  unsupportedProtocolVersion: 0x84,
  clientIdentifierNotValid: 0x85,
  badUserNameOrPassword: 0x86,
  notAuthorized: 0x87,
  serverUnavailable: 0x88,
  serverBusy: 0x89,
  serverShuttingDown: 0x8b,
  badAuthenticationMethod: 0x8c,
  keepAliveTimeout: 0x8d,
  sessionTakenOver: 0x8e,
  topicFilterInvalid: 0x8f,
  topicNameInvalid: 0x90,
  packetIdentifierInUse: 0x91,
  packetIdentifierNotFound: 0x92,
  receiveMaximumExceeded: 0x93,
  topicAliasInvalid: 0x94,
  packetTooLarge: 0x95,
  messageRateTooHigh: 0x96,
  quotaExceeded: 0x97,
  administrativeAction: 0x98,
  payloadFormatInvalid: 0x99,
  retainNotSupported: 0x9a,
  qosNotSupported: 0x9b,
  useAnotherServer: 0x9c,
  serverMoved: 0x9d,
  sharedSubscriptionsNotSupported: 0x9e,
  connectionRateExceeded: 0x9f,
  maximumConnectTime: 0xa0,
  subscriptionIdentifiersNotSupported: 0xa1,
  wildcardSubscriptionsNotSupported: 0xa2,
} as const;

/** CONNACK's return codes in 3.1 and 3.1.1 (table 3.1). */
const RETURN_CODE = {
  unacceptableProtocolVersion: 1,
  identifierRejected: 2,
  serverUnavailable: 3,
  badUserNameOrPassword: 4,
  notAuthorized: 5,
} as const;

const RETURN_CODES: ReadonlyMap<number, number> = new Map([
  [REASON.success, 0],
  [REASON.unsupportedProtocolVersion, RETURN_CODE.unacceptableProtocolVersion],
  [REASON.clientIdentifierNotValid, RETURN_CODE.identifierRejected],
  [REASON.badUserNameOrPassword, RETURN_CODE.badUserNameOrPassword],
  [REASON.notAuthorized, RETURN_CODE.notAuthorized],
  [REASON.badAuthenticationMethod, RETURN_CODE.notAuthorized],
]);

/** CONNACK's return code in 3.x for a reason of 5.0; what has none of its own is "unavailable". */
export function returnCodeOf(reason: number): number {
  return RETURN_CODES.get(reason) ?? RETURN_CODE.serverUnavailable;
}

const NAMES = new Map<number, string>(Object.entries(REASON).map(([name, code]) => [code, name]));

/** The reason's name in REASON, for metrics. */
export function reasonName(reason: number): string {
  return NAMES.get(reason) ?? "other";
}
