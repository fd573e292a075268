import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { Exporter } from "../../src/monitor/metrics/exporter.js";
import type { ProcessFigures } from "../../src/monitor/process_figures.js";
import { samplesOf, shownLeader } from "./support.js";

const root = resolve(import.meta.dirname, "../..");

/** All families, without a node. */
const { families } = new Exporter(() => undefined, {
  latest: {},
  loopDelay: () => undefined,
} as unknown as ProcessFigures);

describe("the metrics", () => {
  test("count and time the writes and reads of a node", async () => {
    const { get, kv, node } = await shownLeader();
    const before = samplesOf(await (await get("/metrics")).text());
    for (let at = 0; at < 5; at++) await kv.put({ key: Buffer.from(`k${at}`), value: Buffer.from("v") });
    await kv.get({ key: Buffer.from("k1") });
    await kv.put({ key: Buffer.alloc(2_000), value: Buffer.from("v") }).catch(() => {});
    await node.takeSnapshot({});
    const answer = await get("/metrics");
    expect(answer.headers.get("content-type")).toContain("text/plain; version=0.0.4");
    const samples = samplesOf(await answer.text());
    const grown = (name: string) => samples.get(name)! - (before.get(name) ?? 0);
    expect(grown("cairn_write_duration_seconds_count")).toBe(5);
    expect(grown("cairn_read_duration_seconds_count")).toBe(1);
    expect(grown("cairn_applied_entries_total")).toBe(5);
    expect(grown('cairn_rpc_ended_total{service="cairn.v1.KeyValueService",method="Put",code="OK"}')).toBe(5);
    expect(grown('cairn_rpc_ended_total{service="cairn.v1.KeyValueService",method="Put",code="LIMIT_EXCEEDED"}')).toBe(
      1,
    );
    expect(grown('cairn_refusals_total{limit="keyBytes"}')).toBe(1);
    expect(samples.get('cairn_connections{kind="client"}')).toBe(1);
    expect(samples.get("cairn_log_oldest_entry_age_seconds")).toBeGreaterThanOrEqual(0);
    expect(samples.get('cairn_rpc_active{service="cairn.v1.KeyValueService",method="Put"}')).toBe(0);
    expect(samples.get('cairn_snapshots_total{reason="requested"}')).toBe(1);
    expect(samples.get("cairn_snapshot_index")).toBe(node.raft.snapshot?.index);
    expect(samples.get("cairn_raft_commit_index")).toBe(node.raft.log.commit);
    expect(samples.get('cairn_raft_role{role="leader"}')).toBe(1);
    expect(samples.get('cairn_held{kind="keys"}')).toBe(5);
    expect(samples.get("cairn_disk_free_bytes")).toBeGreaterThan(0);
    expect(samples.get("process_open_fds") ?? 1, "where the system tells").toBeGreaterThan(0);
    for (const stage of ["queue", "sync", "replicate", "apply"]) {
      expect(samples.get(`cairn_write_stage_duration_seconds_count{stage="${stage}"}`), stage).toBe(5);
    }
  });

  test("have cumulative buckets that end with the count", async () => {
    const { get, kv } = await shownLeader();
    for (let at = 0; at < 3; at++) await kv.put({ key: Buffer.from("k"), value: Buffer.from("v") });
    const samples = samplesOf(await (await get("/metrics")).text());
    const buckets = [...samples].filter(([name]) => name.startsWith("cairn_write_duration_seconds_bucket"));
    const counts = buckets.map(([, value]) => value);
    expect(counts).toEqual([...counts].sort((a, b) => a - b));
    expect(buckets.at(-1)).toEqual(['cairn_write_duration_seconds_bucket{le="+Inf"}', 3]);
    expect(samples.get("cairn_write_duration_seconds_count")).toBe(3);
  });

  test("tell the connections of ingress processes and those that TLS refused, where there are any", () => {
    const collect = (name: string, from: object) =>
      families
        .find((family) => family.name === name)!
        .collect({ server: { connections: { client: 2 } }, ...from } as never);
    expect(collect("cairn_connections", { ingressConnections: 7 })).toEqual([
      { labels: { kind: "client" }, value: 2 },
      { labels: { kind: "ingress" }, value: 7 },
    ]);
    expect(collect("cairn_tls_refused_connections_total", { refusedConnections: 3 })).toEqual([{ value: 3 }]);
  });

  test("tell the margin of each follower that is being sent a snapshot", () => {
    const family = families.find(({ name }) => name === "cairn_transfer_margin_bytes")!;
    const node = { retention: { margins: new Map([["n2", -5]]) } };
    expect(family.collect({ node } as never)).toEqual([{ labels: { peer: "n2" }, value: -5 }]);
  });

  test("tell the end of each certificate, in seconds", () => {
    const family = families.find(({ name }) => name === "cairn_certificate_expiry_timestamp_seconds")!;
    const certificates = [{ use: "server", subject: "CN=n1", file: "node.pem", expiresMs: 5_000 }];
    expect(family.collect({ certificates } as never)).toEqual([
      { labels: { use: "server", subject: "CN=n1" }, value: 5 },
    ]);
  });

  test("have names after the conventions of Prometheus, each once", () => {
    const names = families.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    expect(names.length).toBeGreaterThan(50);
    for (const { name, type, help } of families) {
      expect(name).toMatch(/^(cairn|process)_[a-z0-9_]+$/);
      expect(name.endsWith("_total"), name).toBe(type === "counter");
      expect(help, name).toMatch(/\.$/);
    }
  });

  test.each(["docs/monitoring/grafana.json", "docs/monitoring/alerts.yml", "docs/monitoring.md"])(
    "named in %s exist",
    (file) => {
      const text = readFileSync(resolve(root, file), "utf8");
      const named = new Set(text.match(/\b(?:cairn|process)_[a-z0-9_]+/g));
      expect(named.size).toBeGreaterThan(5);
      const known = families.flatMap(({ name, type }) =>
        type === "histogram" ? [name, `${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
      );
      expect([...named].filter((name) => !known.includes(name))).toEqual([]);
    },
  );

  test("are all listed in the documentation", () => {
    const text = readFileSync(resolve(root, "docs/monitoring.md"), "utf8");
    expect(families.map(({ name }) => name).filter((name) => !text.includes(`\`${name}\``))).toEqual([]);
  });
});
