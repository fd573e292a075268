import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  CompareAndSetResponseSchema,
  DeleteResponseSchema,
  GetResponseSchema,
  KeyValueService,
  PutResponseSchema,
  TxnResponseSchema,
} from "../../gen/cairn/v1/kv_pb.js";
import type { ServiceImplementation } from "../rpc/server.js";
import type { ForwardedAnswer } from "../server/kv/forwarded_calls.js";
import type { NodeLink } from "./node_link.js";

/** Implements the unary key-value methods of an ingress process: the node carries them out. */
export function unaryMethods(link: Pick<NodeLink, "call">): ServiceImplementation<typeof KeyValueService> {
  return {
    get: async (value, context) =>
      answerOf<MessageInitShape<typeof GetResponseSchema>>(await link.call({ case: "get", value }, context)),
    put: async (value, context) =>
      answerOf<MessageInitShape<typeof PutResponseSchema>>(await link.call({ case: "put", value }, context)),
    delete: async (value, context) =>
      answerOf<MessageInitShape<typeof DeleteResponseSchema>>(await link.call({ case: "delete", value }, context)),
    compareAndSet: async (value, context) =>
      answerOf<MessageInitShape<typeof CompareAndSetResponseSchema>>(
        await link.call({ case: "compareAndSet", value }, context),
      ),
    txn: async (value, context) =>
      answerOf<MessageInitShape<typeof TxnResponseSchema>>(await link.call({ case: "txn", value }, context)),
  };
}

/** Returns the answer to a unary call: that of the batch, with the header of the batch. */
function answerOf<Answer>({ header, answer }: ForwardedAnswer): Answer {
  return { ...answer.value, header } as Answer;
}
