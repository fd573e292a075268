import { createHash } from "node:crypto";
import type { StoreRules } from "../../store/rules/rules.js";
import { DEFAULT_RULES } from "../../store/rules/v1.js";
import { workerRunner } from "../../store/steps/worker_runner.js";
import { storeFactory } from "../../store/store.js";
import { nodeFileSystem } from "../../system/fs.js";
import { StoreMachine } from "../store_machine.js";

/** Options of {@link openStoreMachine}. */
export interface OpenStoreMachineOptions {
  readonly directory: string;
  readonly trustDisk: boolean;
  /** The cluster, from which the seeds of the store come: the same on all members. */
  readonly clusterId?: string | undefined;
}

/** Opens the key-value machine on a store on this machine's disk, written by a worker thread. */
export function openStoreMachine(options: OpenStoreMachineOptions): Promise<StoreMachine> {
  const { directory, trustDisk, clusterId = "" } = options;
  const stores = storeFactory({ fs: nodeFileSystem, rules: storeRulesOf(clusterId), runner: workerRunner });
  return StoreMachine.open({ directory, stores, trust: trustDisk ? "auto" : "rebuild" });
}

/** Returns the rules of a cluster's stores. */
export function storeRulesOf(clusterId: string): StoreRules {
  const digest = createHash("sha256").update(`cairn store ${clusterId}`).digest();
  return { ...DEFAULT_RULES, seeds: [digest.readUInt32LE(0), digest.readUInt32LE(4)] };
}
