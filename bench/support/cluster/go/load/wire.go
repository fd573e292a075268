package main

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// rawCodec sends and receives messages that are encoded already.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// protocol names the two methods of a system and the field that asks for a stale read. In both
// systems, the key is in field 1 of each request, the value in field 2 of a put, a header in field 1
// of each response, and the keys found in field 2 of a read's response.
type protocol struct {
	put, get string
	stale    protowire.Number
}

var protocols = map[string]protocol{
	"etcd":  {put: "/etcdserverpb.KV/Put", get: "/etcdserverpb.KV/Range", stale: 7},
	"cairn": {put: "/cairn.v1.KeyValueService/Put", get: "/cairn.v1.KeyValueService/Get", stale: 2},
}

func dial(endpoint string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+endpoint,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})))
}

var errNotFound = errors.New("the key was not found")

func (p protocol) putKey(ctx context.Context, conn *grpc.ClientConn, key, value []byte) error {
	request := bytesField(make([]byte, 0, len(key)+len(value)+16), 1, key)
	_, err := invoke(ctx, conn, p.put, bytesField(request, 2, value))
	return err
}

func (p protocol) getKey(ctx context.Context, conn *grpc.ClientConn, key []byte, stale bool) error {
	request := bytesField(make([]byte, 0, len(key)+16), 1, key)
	if stale {
		request = protowire.AppendTag(request, p.stale, protowire.VarintType)
		request = protowire.AppendVarint(request, 1)
	}
	response, err := invoke(ctx, conn, p.get, request)
	if err == nil && !hasField(response, 2) {
		return errNotFound
	}
	return err
}

// invoke makes a call and checks that the response is one: it has a header.
func invoke(ctx context.Context, conn *grpc.ClientConn, method string, request []byte) ([]byte, error) {
	var response []byte
	if err := conn.Invoke(ctx, method, &request, &response); err != nil {
		return nil, err
	}
	if !hasField(response, 1) {
		return nil, fmt.Errorf("%s: a response without a header", method)
	}
	return response, nil
}

func bytesField(to []byte, number protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(to, number, protowire.BytesType), value)
}

func hasField(message []byte, wanted protowire.Number) bool {
	for len(message) > 0 {
		number, _, length := protowire.ConsumeField(message)
		if length < 0 {
			return false
		}
		if number == wanted {
			return true
		}
		message = message[length:]
	}
	return false
}
