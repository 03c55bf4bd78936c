/** The exit codes of every command except `node check`, whose codes are those of Nagios. */
export const exitCodes = {
  /** Done, or nothing had to be done. */
  done: 0,
  /** Failed, and nothing was changed. */
  failed: 1,
  /** The command was called wrongly. */
  usage: 2,
  /** Failed half-way, or nobody knows how far: the message says what state it left. */
  partly: 3,
} as const;
