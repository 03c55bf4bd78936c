/** What `SHOW HELP` says, below the line "Console usage". */
export const helpText = `
  SHOW HELP | VERSION | CONFIG | STATE
  SHOW POOL_NODES                       the nodes, with pgpool's columns
  SHOW CLIENTS | SERVERS | POOLS        sessions, their connections to PostgreSQL, both by database and user
  SHOW PINNED                           sessions that a switchover would cut, and why
  SHOW LISTS | DATABASES | USERS
  SHOW STATS | STATS_TOTALS | STATS_AVERAGES | TOTALS
  SHOW ROUTERS | VIPS
  PAUSE [database] [FOR 30s]            hold sessions; ends by itself, after 10 min at the latest
  RESUME [database]
  KILL id | database                    cut a session, or all of a database
  DETACH node | ATTACH node             no new sessions on a node; give it sessions again
  DRAIN node                            detach it, and let its sessions move or end
  RECONNECT [database]                  connect sessions anew as they come to rest
  RELOAD                                read the router's file again
  SHUTDOWN                              stop listening, let the sessions end, then end`;
