import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { AdminService } from "../../../gen/cairn/v1/admin_pb.js";
import { KeyValueService } from "../../../gen/cairn/v1/kv_pb.js";
import { LeaseService } from "../../../gen/cairn/v1/lease_pb.js";
import { RaftService } from "../../../gen/cairn/v1/raft_pb.js";
import { openChannel } from "../../../src/rpc/client.js";
import { AccessControl } from "../../../src/server/access/access_control.js";
import { bearer, newToken, tokenHash } from "../../../src/server/access/tokens.js";
import { CairnServer } from "../../../src/server/server.js";
import { ManualClock, until } from "../conditions.js";
import { replaceFile } from "../disk/replace_file.js";
import { temporaryDirectory } from "../disk/temporary_directory.js";
import { memoryHome } from "./nodes.js";

export type Grants = readonly { readonly role: string; readonly prefixes?: readonly (string | { hex: string })[] }[];

/** A caller of a test, by its token. */
export interface TestCaller {
  readonly name: string;
  readonly token: string;
  readonly grants: Grants;
}

export function testCaller(name: string, ...grants: Grants): TestCaller {
  return { name, token: newToken(), grants };
}

/** The text of an access file for these callers. */
export function accessText(callers: readonly TestCaller[], more: object = {}): string {
  const entries = callers.map(({ name, token, grants }) => ({ name, tokens: [tokenHash(token)], grants }));
  return JSON.stringify({ ...more, callers: entries });
}

/** The settings of a call with the caller's token. */
export function as({ token }: TestCaller, metadata: Readonly<Record<string, string>> = {}) {
  return { metadata: { ...metadata, authorization: bearer(token) }, timeoutMs: 20_000 };
}

/** Lines of a log. */
export type LogLine = Readonly<Record<string, unknown>>;

/** A node that leads alone, behind an access file. */
export async function serveGuarded(callers: readonly TestCaller[], more: object = {}) {
  const file = join(await temporaryDirectory(), "access.json");
  writeFileSync(file, accessText(callers, more));
  const lines: LogLine[] = [];
  const log = (facts: object, message: string) => void lines.push({ ...facts, message });
  const logger = { debug: () => {}, info: log, warn: log, error: log };
  const clock = new ManualClock();
  const access = AccessControl.open({ file, logger, clock });
  const home = memoryHome();
  const node = await home.startLeader();
  const server = await CairnServer.start(node, { listen: "127.0.0.1:0", accessControl: access });
  const channel = openChannel(server.address);
  onTestFinished(async () => {
    channel.close();
    await server.stop();
    access.close();
    await home.stop(node);
  });
  return {
    file,
    lines,
    clock,
    access,
    node,
    server,
    channel,
    kv: channel.client(KeyValueService),
    admin: channel.client(AdminService),
    leases: channel.client(LeaseService),
    raft: channel.client(RaftService),
    /** Changes the file, and waits until the change is in force. */
    async reload(changed: readonly TestCaller[] | string, moreThen: object = more) {
      const before = access.generation;
      await replaceFile(file, typeof changed === "string" ? changed : accessText(changed, moreThen));
      await until(() => access.generation > before, "the file is read again");
    },
  };
}
