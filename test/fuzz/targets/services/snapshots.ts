import { crc32, deflateRawSync } from "node:zlib";
import { InstallSnapshotRequestSchema } from "../../../../gen/cairn/v1/raft_pb.js";
import type { Random } from "../../../support/random.js";
import { shuffled } from "../../generate/messages.js";
import { mutated } from "../../generate/mutations.js";
import { sealed } from "../../generate/sealed_snapshot.js";
import { encoded } from "../decoders/commands.js";
import { SNAPSHOT_FILE } from "../decoders/storage.js";
import { type Facts, TERM_STEPS } from "./facts.js";

/** Bytes of a snapshot's file at the end of its trailer that hold its digest. */
const SHA256_BYTES = 32;

/**
 * Draws the messages of a snapshot transfer that a receiver believes for a while: an offer of a member that may lead in a new term, and
 * chunks with right checksums, which then break off, come out of order, or turn out to be of another cluster. It is never a snapshot that
 * a correct receiver installs.
 */
export function drawTransfer(random: Random, facts: Facts, receiver: string): Buffer[] {
  const file = random.oneIn(3) ? SNAPSHOT_FILE : sealed(mutated(random, SNAPSHOT_FILE));
  const sender = random.pick([...facts.incarnations.keys()].filter((id) => id !== receiver));
  const term = facts.term + BigInt(random.whole(0, Number(TERM_STEPS)));
  const header = {
    protocolVersion: 2,
    clusterId: facts.clusterId,
    senderId: sender,
    senderIncarnation: facts.incarnations.get(sender)!,
    receiverId: receiver,
    receiverIncarnation: facts.incarnations.get(receiver) ?? new Uint8Array(0),
  };
  const choice = {
    index: facts.commitIndex + BigInt(random.whole(1, 1_000)),
    snapshotTerm: random.oneIn(4) ? term : 3n,
    fileBytes: BigInt(random.oneIn(4) ? random.whole(1, 2 ** 31) : file.byteLength),
    sha256: random.oneIn(4) ? Buffer.alloc(SHA256_BYTES, 5) : file.subarray(file.byteLength - SHA256_BYTES),
  };
  const compression = random.whole(0, 1);
  const others = random.oneIn(3) ? [{ ...choice, index: choice.index - 1n }] : [];
  const offer = encoded(InstallSnapshotRequestSchema, {
    message: { case: "offer", value: { header, term, leaderId: sender, ...choice, compression, others } },
  });
  const inOrder = chunksOf(random, file, term, compression === 1);
  const chunks = random.oneIn(4) ? shuffled(random, inOrder) : inOrder;
  if (random.oneIn(6)) return [...chunks, offer];
  return random.oneIn(6) ? [offer, offer, ...chunks] : [offer, ...chunks];
}

function chunksOf(random: Random, file: Buffer, term: bigint, mayCompress: boolean): Buffer[] {
  const chunks: Buffer[] = [];
  for (let at = 0; at < file.byteLength; ) {
    const plain = file.subarray(at, at + random.whole(1, 700));
    const isCompressed = mayCompress && random.oneIn(2);
    const data = isCompressed ? deflateRawSync(plain) : plain;
    const value = {
      term: random.oneIn(40) ? term - 1n : term,
      offset: BigInt(random.oneIn(40) ? random.whole(0, 2 ** 40) : at),
      crc32: random.oneIn(40) ? 7 : crc32(data),
      data,
      fileBytes: isCompressed ? (random.oneIn(20) ? 2 ** 20 : plain.byteLength) : 0,
    };
    chunks.push(encoded(InstallSnapshotRequestSchema, { message: { case: "chunk", value } }));
    at += plain.byteLength;
  }
  return random.oneIn(3) ? chunks.slice(0, random.whole(0, chunks.length)) : chunks;
}
