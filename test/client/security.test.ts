import { copyFileSync } from "node:fs";
import type { DescService } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { describe, expect, onTestFinished, test } from "vitest";
import { AdminService } from "../../gen/cairn/v1/admin_pb.js";
import { KeyValueService } from "../../gen/cairn/v1/kv_pb.js";
import { LeaseService } from "../../gen/cairn/v1/lease_pb.js";
import { CairnError } from "../../src/base/errors.js";
import { limits } from "../../src/base/limits.js";
import { ClusterAdmin } from "../../src/client/admin/cluster_admin.js";
import { CairnClient } from "../../src/client/client.js";
import type { ClientOptions } from "../../src/client/options.js";
import type { ClientTls } from "../../src/client/security/connection.js";
import { serverOptions } from "../../src/rpc/grpc_options.js";
import { addService } from "../../src/rpc/server.js";
import { StoredAuthority } from "../support/certificates/stored_authority.js";
import { failure, until } from "../support/conditions.js";
import { clientOf, FakeNode } from "./support.js";

const LEASE_MS = 9_000;

const SERVICES: readonly DescService[] = [KeyValueService, LeaseService, AdminService];

/** A node that demands certificates, notes the token of each call, and fails all but a few. */
class Listener {
  /** Tokens by path: "/cairn.v1.KeyValueService/Put". */
  readonly heard = new Map<string, Set<string>>();

  private constructor(
    readonly address: string,
    readonly tls: ClientTls,
  ) {}

  static async start(): Promise<Listener> {
    const authority = await StoredAuthority.make();
    const [node, client] = [await authority.node("n1"), await authority.client("alice")];
    const server = new grpc.Server({
      ...serverOptions,
      interceptors: [
        (method, call) =>
          new grpc.ServerInterceptingCall(call, {
            start: (next) =>
              next({
                onReceiveMetadata: (metadata, go) => {
                  listener.#note(method.path, metadata.get("authorization"));
                  go(metadata);
                },
              }),
          }),
      ],
    });
    for (const service of SERVICES) addService(server, service, answersOf(service) as never);
    const credentials = grpc.ServerCredentials.createSsl(
      Buffer.from(authority.pem),
      [{ private_key: Buffer.from(node.key), cert_chain: Buffer.from(node.certificate) }],
      true,
    );
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync("127.0.0.1:0", credentials, (error, bound) => (error ? reject(error) : resolve(bound)));
    });
    onTestFinished(() => server.forceShutdown());
    const tls = { ca: authority.certificateFile, certificate: client.certificateFile, key: client.keyFile };
    const listener: Listener = new Listener(`127.0.0.1:${port}`, tls);
    return listener;
  }

  /** Names of the methods of a service that were called. */
  methods({ typeName }: DescService): string[] {
    const prefix = `/${typeName}/`;
    return [...this.heard.keys()].filter((path) => path.startsWith(prefix)).map((path) => path.slice(prefix.length));
  }

  get tokens(): Set<string> {
    return new Set([...this.heard.values()].flatMap((tokens) => [...tokens]));
  }

  #note(path: string, values: readonly grpc.MetadataValue[]): void {
    const tokens = this.heard.get(path) ?? new Set();
    tokens.add(values.length === 1 ? String(values[0]) : `${values.length} values`);
    this.heard.set(path, tokens);
  }
}

/** Implements all methods of a service: they refuse, but for those without which a client comes no further. */
function answersOf(service: DescService): object {
  const refuse = () => {
    // A refusal that a client does not take for a passing one.
    throw new CairnError("INVALID_ARGUMENT", "as the test wants it");
  };
  const answers: Record<string, unknown> = Object.fromEntries(
    service.methods.map(({ localName, methodKind }) => {
      const isStream = methodKind === "server_streaming" || methodKind === "bidi_streaming";
      // biome-ignore lint/correctness/useYield: it refuses before its first answer
      const stream = async function* () {
        refuse();
      };
      return [localName, isStream ? stream : async () => refuse()];
    }),
  );
  const members = [{ id: "n1", address: "" }];
  if (service === AdminService) {
    answers.getStatus = async () => ({ nodeId: "n1", leaderId: "n1", clusterId: "c1", membership: { members } });
  }
  if (service === LeaseService) {
    let lastId = 100n;
    answers.grant = async () => ({ leaseId: ++lastId });
    answers.keepAlive = async function* (requests: AsyncIterable<{ leaseIds: bigint[] }>) {
      // One answer a stream, so that keepers open one after the other.
      for await (const { leaseIds } of requests) {
        yield { leases: leaseIds.map((leaseId) => ({ leaseId, found: true, ttlMs: LEASE_MS })) };
        return;
      }
    };
  }
  return answers;
}

/** Makes one call of each kind, whatever becomes of it. */
async function callAll(client: CairnClient, admin: ClusterAdmin): Promise<void> {
  const calls: (() => Promise<unknown>)[] = [
    () => client.get("k"),
    () => client.get("k", { stale: true }),
    () => client.get("k", { stale: true, minAppliedIndex: 1 }),
    () => client.put("k", "v"),
    () => client.range({ prefix: "k" }).next(),
    () => client.watch("k")[Symbol.asyncIterator]().next(),
    () => client.lock("l", { waitMs: 300 }),
    () => client.elect("e", "v", { waitMs: 300 }),
    () => client.status(),
    () => client.leases.list(),
    () => client.leases.revoke(7),
    () => client.leases.timeToLive(7),
    () => client.leases.attach(7),
    () => admin.look(),
  ];
  await Promise.allSettled(calls.map((call) => call()));
  // Streams and unary calls of the operator's interface, whichever a command makes.
  const node = admin.at((await admin.look()).leaderAddress);
  for (const { localName, methodKind } of AdminService.methods) {
    const call = (node as unknown as Record<string, (request: object) => unknown>)[localName]!({});
    if (methodKind === "unary") await Promise.allSettled([call]);
    else await failure("INVALID_ARGUMENT", (call as AsyncIterable<unknown>)[Symbol.asyncIterator]().next());
  }
}

describe("the token of a client", () => {
  test("goes with every call, by TLS, also of the thread that keeps leases, and follows its function", async () => {
    const listener = await Listener.start();
    const { address, tls } = listener;
    let token = "first-token";
    const client = clientOf(address, { tls, token: () => token, timeoutMs: 5_000 });
    const admin = new ClusterAdmin([address], { tls, token: () => token });
    onTestFinished(() => admin.close());
    const lease = await client.leases.grant({ ttlMs: LEASE_MS });
    await lease.keepAlive();
    expect(listener.methods(LeaseService)).toEqual(["Grant", "KeepAlive"]);
    await callAll(client, admin);

    // All that clients of this library call: others are for foreign clients.
    expect(listener.methods(KeyValueService).sort()).toEqual(["Get", "Range", "Session", "Watch"]);
    expect(listener.methods(LeaseService).sort()).toEqual(LeaseService.methods.map(({ name }) => name).sort());
    expect(listener.methods(AdminService).sort()).toEqual(AdminService.methods.map(({ name }) => name).sort());
    expect([...listener.tokens]).toEqual(["Bearer first-token"]);

    token = "second-token";
    await client.status();
    expect(listener.heard.get("/cairn.v1.AdminService/GetStatus")).toContain("Bearer second-token");
    const keepAlives = listener.heard.get("/cairn.v1.LeaseService/KeepAlive");
    await until(() => keepAlives?.has("Bearer second-token") === true, "the thread has the new token");
  });

  test("never appears in an error, whatever is wrong with it", async () => {
    const listener = await Listener.start();
    const { address, tls } = listener;
    const secret = "secret token";
    await failure(
      "INVALID_ARGUMENT",
      () => new CairnClient({ endpoints: [address], tls, token: secret }),
      /^(?!.*secret)/,
    );
    const long = "x".repeat(limits.tokenCharacters + 1);
    await failure(
      "LIMIT_EXCEEDED",
      () => new CairnClient({ endpoints: [address], tls, token: long }),
      /tokenCharacters \(\d+\)$/,
    );
    await failure(
      "INVALID_ARGUMENT",
      () => new CairnClient({ endpoints: [address], token: 7 as never }),
      "token must be",
    );
    const client = clientOf(address, { tls, token: () => secret, timeoutMs: 2_000 });
    await failure("INVALID_ARGUMENT", client.status(), /^(?!.*secret)/);
    await failure("INVALID_ARGUMENT", client.put("k", "v"), /^(?!.*secret)/);
    const failing = clientOf(address, {
      tls,
      token: () => {
        throw new Error(secret);
      },
    });
    const error = await failure("FAILED_PRECONDITION", failing.status(), /has thrown an error$/);
    expect(error.cause).toBeUndefined();
    expect(listener.heard.size).toBe(0);
  });

  test("is not sent to another machine without encryption, unless that is asked for", async () => {
    const text = /the token is not sent to 192\.0\.2\.1:7101, because the connection would not be encrypted/;
    const options = { endpoints: ["127.0.0.1:1", "192.0.2.1:7101"], token: "t" };
    await failure("FAILED_PRECONDITION", () => new CairnClient(options), text);
    await failure("FAILED_PRECONDITION", () => new ClusterAdmin(options.endpoints, options), text);
    await new CairnClient({ ...options, insecure: true }).close();
    // An address that a node names is found later.
    const client = clientOf(["127.0.0.1:1", "localhost:1", "[::1]:1"], { token: "t" });
    await failure("FAILED_PRECONDITION", client.status({ endpoint: "192.0.2.1:7101" }), text);
  });
});

test.each(["UNAUTHENTICATED", "PERMISSION_DENIED"] as const)(
  "a client that is refused with %s hears of it at once",
  async (code) => {
    const node = await FakeNode.start("n1");
    node.refuseStreams = code;
    const client = clientOf(node.address);
    await Promise.all([failure(code, client.put("a", "")), failure(code, client.get("a"))]);
  },
);

describe("a client with TLS", () => {
  test("says at the end of a call why no node could be reached", async () => {
    const listener = await Listener.start();
    const other = await StoredAuthority.make("Other");
    const options: Partial<ClientOptions> = { tls: { ...listener.tls, ca: other.certificateFile }, timeoutMs: 1_500 };
    const client = clientOf(listener.address, options);
    const reason = /the authority of the server's certificate, CN=Test authority, is not one that this client trusts/;
    const calls = [client.get("k"), client.get("k", { stale: true }), client.put("k", "v"), client.status()];
    const errors = await Promise.all(calls.map((call) => failure("TIMEOUT", call, reason)));
    for (const { cause } of errors) expect(cause).toMatchObject({ code: "UNREACHABLE" });
    const admin = new ClusterAdmin([listener.address], options);
    onTestFinished(() => admin.close());
    await failure("UNREACHABLE", admin.look(), reason);
    await failure("TIMEOUT", clientOf(listener.address, { timeoutMs: 1_500 }).get("k"), "it may speak TLS only");
    // The same client, when the file holds the right authority.
    copyFileSync(listener.tls.ca!, other.certificateFile);
    expect((await client.status({ timeoutMs: 5_000 })).nodeId).toBe("n1");
  });
});
