/** Ends the processes that a test file has left running. Files share a process, so a hook of the helper's own would run once. */
import { afterAll } from "vitest";
import { killProcesses } from "../processes/processes.js";

afterAll(killProcesses);
