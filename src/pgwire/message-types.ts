/** First bytes of the messages a client sends. */
export const fromClient = {
  query: 0x51, // Q
  functionCall: 0x46, // F
  parse: 0x50, // P
  bind: 0x42, // B
  describe: 0x44, // D
  execute: 0x45, // E
  close: 0x43, // C
  sync: 0x53, // S
  flush: 0x48, // H
  terminate: 0x58, // X
  copyData: 0x64, // d
  copyDone: 0x63, // c
  copyFail: 0x66, // f
  /** Password, SASL and GSS answers share it. */
  password: 0x70, // p
} as const;

/** First bytes of the messages a server sends. */
export const fromServer = {
  authentication: 0x52, // R
  parameterStatus: 0x53, // S
  backendKeyData: 0x4b, // K
  readyForQuery: 0x5a, // Z
  negotiateProtocolVersion: 0x76, // v
  error: 0x45, // E
  notice: 0x4e, // N
  notification: 0x41, // A
  rowDescription: 0x54, // T
  dataRow: 0x44, // D
  commandComplete: 0x43, // C
  emptyQuery: 0x49, // I
  parseComplete: 0x31, // 1
  bindComplete: 0x32, // 2
  closeComplete: 0x33, // 3
  noData: 0x6e, // n
  parameterDescription: 0x74, // t
  portalSuspended: 0x73, // s
  functionCallResponse: 0x56, // V
  copyIn: 0x47, // G
  copyOut: 0x48, // H
  copyBoth: 0x57, // W
  copyData: 0x64, // d
  copyDone: 0x63, // c
} as const;

/** The transaction state in a ReadyForQuery. */
export const transactionState = {
  idle: 0x49, // I
  open: 0x54, // T
  failed: 0x45, // E
} as const;
