/** Reads the command line and starts what it names. The daemons are loaded only when they are wanted. */
const command = process.argv[2] ?? "";

switch (command) {
  case "agent": {
    const words = process.argv.slice(3);
    if (words.includes("--supervised")) {
      const { supervisorMain } = await import("./main-supervisor.ts");
      process.exitCode = await supervisorMain(words);
      break;
    }
    const { agentMain } = await import("./main-agent.ts");
    process.exitCode = await agentMain(words);
    break;
  }
  case "guard": {
    const { guardMain } = await import("./main-guard.ts");
    await guardMain(process.argv.slice(3));
    break;
  }
  case "router": {
    // `pgherd router --config FILE` is the daemon; `pgherd router status` and the like are commands of the operator.
    const words = process.argv.slice(3);
    if (words[0]?.startsWith("-c") === true || words[0]?.startsWith("--config") === true) {
      const { routerMain } = await import("./main-router.ts");
      process.exitCode = await routerMain(words);
      break;
    }
    const { runCliProcess } = await import("./cli/run-process.ts");
    await runCliProcess(process.argv.slice(2));
    break;
  }
  case "backup-job": {
    const { backupJobMain } = await import("./main-backup-job.ts");
    process.exitCode = await backupJobMain();
    break;
  }
  case "backup-receiver": {
    const { backupReceiverMain } = await import("./main-backup-receiver.ts");
    process.exitCode = await backupReceiverMain(process.argv.slice(3));
    break;
  }
  case "backup-spool": {
    const { backupSpoolMain } = await import("./main-backup-spool.ts");
    process.exitCode = await backupSpoolMain(process.argv.slice(3));
    break;
  }
  case "restore-job": {
    const { restoreJobMain } = await import("./main-restore-job.ts");
    process.exitCode = await restoreJobMain();
    break;
  }
  case "backup": {
    // `pgherd backup serve --config FILE` is the daemon; the other words are commands of the operator.
    if (process.argv[3] === "serve") {
      const { backupMain } = await import("./main-backup.ts");
      process.exitCode = await backupMain(process.argv.slice(4));
      break;
    }
    const { runCliProcess } = await import("./cli/run-process.ts");
    await runCliProcess(process.argv.slice(2));
    break;
  }
  case "vip-guard": {
    const { vipGuardMain } = await import("./main-vip-guard.ts");
    process.exitCode = await vipGuardMain();
    break;
  }
  default: {
    const { runCliProcess } = await import("./cli/run-process.ts");
    await runCliProcess(process.argv.slice(2));
  }
}
