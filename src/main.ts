/** Reads the command line and starts what it names. The daemons are loaded only when they are wanted. */
const [command] = process.argv.slice(2);

switch (command) {
  case "agent": {
    const { agentMain } = await import("./main-agent.ts");
    process.exitCode = await agentMain(process.argv.slice(3));
    break;
  }
  case "guard": {
    const { guardMain } = await import("./main-guard.ts");
    await guardMain(process.argv.slice(3));
    break;
  }
  default: {
    const { runCli } = await import("./cli/run.ts");
    const { processIo } = await import("./cli/process-io.ts");
    process.exitCode = await runCli(process.argv.slice(2), processIo());
  }
}
