// Makes gRPC calls over a Unix socket, one after the other, as the kubelet does, and prints how long each took.
//
// Arguments: the socket, how many rounds, then for each method its path and its request in hexadecimal. A round
// calls each method once; a tenth more rounds are made first, unmeasured.
// Prints a list of milliseconds for each method.
package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"log"
	"os"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// rawCodec leaves messages as they are: reading them is no part of the call.
type rawCodec struct{}

func (rawCodec) Marshal(message any) ([]byte, error)      { return *message.(*[]byte), nil }
func (rawCodec) Unmarshal(data []byte, message any) error { *message.(*[]byte) = data; return nil }
func (rawCodec) Name() string                             { return "proto" }

func main() {
	rounds, err := strconv.Atoi(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	connection, err := grpc.NewClient("unix:"+os.Args[1],
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{})))
	if err != nil {
		log.Fatal(err)
	}
	calls := os.Args[3:]
	took := make([][]float64, len(calls)/2)
	for round := -rounds / 10; round < rounds; round++ {
		for i := range took {
			request, err := hex.DecodeString(calls[2*i+1])
			if err != nil {
				log.Fatal(err)
			}
			began := time.Now()
			call(connection, calls[2*i], request)
			if round >= 0 {
				took[i] = append(took[i], time.Since(began).Seconds()*1e3)
			}
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(took); err != nil {
		log.Fatal(err)
	}
}

func call(connection *grpc.ClientConn, method string, request []byte) {
	// The agent isn't to hold up whoever measures it.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var response []byte
	if err := connection.Invoke(ctx, method, &request, &response); err != nil {
		log.Fatal(err)
	}
}
