import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { type DescriptorProto, type FileDescriptorProto, FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import type * as grpc from "@grpc/grpc-js";

/**
 * Returns the encoded files of a service that proto-loader has loaded, as a protobuf compiler would
 * have written them. The files of proto-loader are not quite valid: names of types are relative,
 * and the types of map entries are named after the map. Strict clients, such as `buf curl`, refuse
 * all services of such a file. Each of these files declares everything that it uses.
 */
export function filesOfLoadedService(definition: grpc.ServiceDefinition): Buffer[] {
  return Object.values(definition).flatMap((method) => {
    // proto-loader keeps the files with the types of each method; grpc-js does not know of them.
    const { requestType } = method as { requestType?: { fileDescriptorProtos?: Buffer[] } };
    return (requestType?.fileDescriptorProtos ?? []).map(corrected);
  });
}

function corrected(encoded: Buffer): Buffer {
  const file = fromBinary(FileDescriptorProtoSchema, encoded);
  for (const message of file.messageType) renameMapEntries(message);
  makeNamesAbsolute(file);
  return Buffer.from(toBinary(FileDescriptorProtoSchema, file));
}

/** Renames the entry types of maps: that of a map `all_names` is called AllNamesEntry. */
function renameMapEntries(message: DescriptorProto): void {
  for (const nested of message.nestedType) {
    renameMapEntries(nested);
    if (nested.options?.mapEntry !== true) continue;
    const field = message.field.find(({ typeName }) => typeName === nested.name);
    if (field === undefined) continue;
    nested.name = `${field.name.replace(/(?:^|_)([a-z])/g, (_, letter: string) => letter.toUpperCase())}Entry`;
    field.typeName = nested.name;
  }
}

function makeNamesAbsolute(file: FileDescriptorProto): void {
  const declared = new Set<string>();
  const everyMessage = (visit: (message: DescriptorProto, fullName: string) => void) => {
    const walk = (messages: DescriptorProto[], scope: string) => {
      for (const message of messages) {
        const fullName = `${scope}.${message.name}`;
        visit(message, fullName);
        walk(message.nestedType, fullName);
      }
    };
    walk(file.messageType, `.${file.package}`);
  };
  for (const { name } of file.enumType) declared.add(`.${file.package}.${name}`);
  everyMessage((message, fullName) => {
    declared.add(fullName);
    for (const { name } of message.enumType) declared.add(`${fullName}.${name}`);
  });
  everyMessage((message, fullName) => {
    for (const field of message.field) field.typeName = absolute(field.typeName, fullName, declared);
  });
}

/**
 * Resolves a name from the innermost scope outwards, as the language does; leaves a name unchanged
 * that it does not find.
 */
function absolute(name: string, from: string, declared: ReadonlySet<string>): string {
  if (name === "" || name.startsWith(".")) return name;
  for (let scope = from; scope !== ""; scope = scope.slice(0, scope.lastIndexOf("."))) {
    if (declared.has(`${scope}.${name}`)) return `${scope}.${name}`;
  }
  return name;
}
