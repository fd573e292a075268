import type { DescMethod, DescService } from "@bufbuild/protobuf";
import { AdminService } from "../../../gen/cairn/v1/admin_pb.js";
import { KeyValueService } from "../../../gen/cairn/v1/kv_pb.js";
import { LeaseService } from "../../../gen/cairn/v1/lease_pb.js";
import { MachineService } from "../../../gen/cairn/v1/machine_pb.js";
import { RaftService } from "../../../gen/cairn/v1/raft_pb.js";
import { methodPath } from "../../rpc/codec.js";

// Says what the caller of each method needs. A method that is not here is refused to everybody.

/** The needs of a method's caller, before any key of the call is looked at. */
export interface MethodRule {
  readonly needs: /** The role for some keys: the handler checks each key of the call. */
    | "reader"
    | "writer"
    /** The role for all keys: the call's keys are not known to the node. */
    | "reader of all keys"
    | "writer of all keys"
    | "admin"
    /** Nothing but to be a caller of the access file, or a member. */
    | "known"
    /** To be a member. */
    | "peer"
    /** Open or known, as the access file says. */
    | "health"
    | "reflection";
  /** Members may call it for themselves. */
  readonly byMembers?: boolean;
  /** An admin may call it, too. */
  readonly byAdmins?: boolean;
}

const READER: MethodRule = { needs: "reader" };
const WRITER: MethodRule = { needs: "writer" };
const ADMIN: MethodRule = { needs: "admin" };
const PEER: MethodRule = { needs: "peer", byMembers: true };
const KNOWN: MethodRule = { needs: "known", byMembers: true };

function byMembers(rule: MethodRule): MethodRule {
  return { ...rule, byMembers: true };
}

/** One rule for each method: the compiler finds a method without one. */
type RulesOf<Service extends DescService> = { readonly [Name in keyof Service["method"]]: MethodRule };

const keyValueRules: RulesOf<typeof KeyValueService> = {
  get: READER,
  put: WRITER,
  delete: WRITER,
  // A member that compares states has the leader commit one that changes nothing.
  compareAndSet: byMembers(WRITER),
  range: READER,
  // Its operations say whether they read or write.
  txn: READER,
  watch: READER,
  // Members and ingress processes hand calls of others over, each with its caller.
  session: byMembers(READER),
};

const leaseRules: RulesOf<typeof LeaseService> = {
  grant: WRITER,
  keepAlive: byMembers(WRITER),
  revoke: WRITER,
  timeToLive: READER,
  listLeases: { needs: "reader of all keys", byAdmins: true },
};

const machineRules: RulesOf<typeof MachineService> = {
  propose: byMembers({ needs: "writer of all keys" }),
  readIndex: byMembers({ needs: "reader of all keys" }),
  barrier: byMembers({ needs: "writer of all keys" }),
};

const adminRules: RulesOf<typeof AdminService> = {
  // Clients find the cluster with it, and people see how it is.
  getStatus: KNOWN,
  getLogInfo: KNOWN,
  // Members compare their states with these, and fetch a lost snapshot.
  takeSnapshot: byMembers(ADMIN),
  listSnapshots: byMembers(ADMIN),
  downloadSnapshot: byMembers(ADMIN),
  campaign: ADMIN,
  listTransfers: ADMIN,
  cancelTransfer: ADMIN,
  addLearner: ADMIN,
  promoteLearner: ADMIN,
  removeMember: ADMIN,
  transferLeadership: ADMIN,
  compact: ADMIN,
  verifyState: ADMIN,
};

const raftRules: RulesOf<typeof RaftService> = {
  requestVote: PEER,
  appendEntries: PEER,
  installSnapshot: PEER,
  timeoutNow: PEER,
  introduce: PEER,
  join: PEER,
};

const HEALTH: MethodRule = { needs: "health", byMembers: true, byAdmins: true };
const REFLECTION: MethodRule = { needs: "reflection", byMembers: true, byAdmins: true };

/** The methods of services that other libraries define. */
const discoveryRules: Readonly<Record<string, MethodRule>> = {
  "/grpc.health.v1.Health/Check": HEALTH,
  "/grpc.health.v1.Health/List": HEALTH,
  "/grpc.health.v1.Health/Watch": HEALTH,
  "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": REFLECTION,
  "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": REFLECTION,
};

/** The rules of all methods, by path: /package.Service/Method. */
export const methodRules: ReadonlyMap<string, MethodRule> = new Map([
  ...rulesByPath(KeyValueService, keyValueRules),
  ...rulesByPath(LeaseService, leaseRules),
  ...rulesByPath(MachineService, machineRules),
  ...rulesByPath(AdminService, adminRules),
  ...rulesByPath(RaftService, raftRules),
  ...Object.entries(discoveryRules),
]);

function rulesByPath<Service extends DescService>(service: Service, rules: RulesOf<Service>): [string, MethodRule][] {
  const byName = rules as Readonly<Record<string, MethodRule>>;
  return service.methods.flatMap((method: DescMethod): [string, MethodRule][] => {
    const rule = byName[method.localName];
    return rule === undefined ? [] : [[methodPath(method), rule]];
  });
}
