// Preloaded into a process under test (`node --import`): its wall clock is ahead by CAIRN_TEST_CLOCK_AHEAD_MS.
const aheadMs = Number(process.env.CAIRN_TEST_CLOCK_AHEAD_MS);
const { now } = Date;
Date.now = () => now() + aheadMs;
