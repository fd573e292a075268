import { expect, test } from "vitest";
import { type MemberStatus, statusText } from "../../src/cli/output/cluster_status.js";

const member = (id: string, fields: Partial<MemberStatus> = {}): MemberStatus => {
  return { id, address: `${id}:1`, member: "voter", role: "follower", ...fields };
};

function certificate(expires: string) {
  return { use: "server", subject: "CN=n1", file: "n1.pem", expires };
}

const known = { protocol: 2, newestRules: 4, rulesInForce: 3 };

test("the status shows each member's version, and says when they run different programs of one version", () => {
  const status = { cluster: "c", leader: "n1", term: 1 };
  const one = member("n1", { version: "0.1.0", versions: known });
  const same = [one, member("n2", { version: "0.1.0", versions: { ...known, rulesInForce: 4 } }), member("n3")];
  expect(statusText({ ...status, members: same })).toMatch(/MEMBER +VERSION +ROLE/);
  expect(statusText({ ...status, members: same })).not.toContain("versions differ");
  const mixed = [one, member("n2", { version: "0.1.0" })];
  expect(statusText({ ...status, members: mixed })).toContain(
    "versions differ: n1 runs 0.1.0, protocol 2, rules up to 4; n2 runs 0.1.0, an earlier build",
  );
});

test("the status shows the day on which a member's first certificate ends, where there is TLS", () => {
  const status = { cluster: "c", leader: "n1", term: 1 };
  const certificates = [certificate("2031-05-06T07:08:09.000Z"), certificate("2030-04-05T06:07:08.000Z")];
  const lines = statusText({ ...status, members: [member("n1", { certificates }), member("n2")] }).split("\n");
  expect(lines[1]).toMatch(/HEALTH +CERTIFICATE$/);
  expect(lines[2]).toMatch(/until 2030-04-05$/);
  expect(lines[3]).toMatch(/-$/);
  expect(statusText({ ...status, members: [member("n1", { certificates: [] })] })).not.toContain("CERTIFICATE");
});
