// Replicas of a service and the load on it, for `bench/service.py`.
//
//	serving replicas ADDRESS...                answers every request with a few bytes
//	serving load -connections 32 -seconds 5 URL
//
// The load has one request under way on each connection. It prints {"per_s", "p50_ms", "p99_ms", "errors"}.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"sort"
	"sync"
	"time"
)

const answer = "{\"label\": \"cat\", \"score\": 0.98}\n"

func main() {
	if len(os.Args) < 3 {
		log.Fatal("usage: serving replicas ADDRESS... | serving load [options] URL")
	}
	switch os.Args[1] {
	case "replicas":
		replicas(os.Args[2:])
	case "load":
		load(os.Args[2:])
	default:
		log.Fatalf("no such part: %s", os.Args[1])
	}
}

func replicas(addresses []string) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, answer)
	})
	var all sync.WaitGroup
	for _, address := range addresses {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			log.Fatal(err)
		}
		all.Add(1)
		go func(listener net.Listener) {
			defer all.Done()
			log.Fatal(http.Serve(listener, handler))
		}(listener)
	}
	fmt.Println("ready")
	all.Wait()
}

// result is what one connection saw.
type result struct {
	took   []time.Duration
	errors int
}

func load(arguments []string) {
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	connections := flags.Int("connections", 32, "how many at the same time")
	seconds := flags.Float64("seconds", 5, "how long to measure, after a tenth of it unmeasured")
	rate := flags.Float64("rate", 0, "requests a second, all connections together; 0: as many as there can be")
	flags.Parse(arguments)
	target, err := url.Parse(flags.Arg(0))
	if err != nil {
		log.Fatal(err)
	}
	span := time.Duration(*seconds * float64(time.Second))
	run(target, *connections, *rate, span/10)
	began := time.Now()
	results := run(target, *connections, *rate, span)
	report(results, time.Since(began))
}

func run(target *url.URL, connections int, rate float64, span time.Duration) []result {
	results := make([]result, connections)
	var all sync.WaitGroup
	for i := range results {
		all.Add(1)
		go func(i int) {
			defer all.Done()
			var every time.Duration
			if rate > 0 {
				every = time.Duration(float64(connections) / rate * float64(time.Second))
				time.Sleep(every * time.Duration(i) / time.Duration(connections))
			}
			results[i] = ask(target, every, span)
		}(i)
	}
	all.Wait()
	return results
}

// ask sends one request after another on one connection, and reads each answer whole.
//
// Go's own client takes more of a core than the proxy that is measured: this one writes and parses by hand,
// with Go's parser of answers.
func ask(target *url.URL, every, span time.Duration) result {
	var r result
	connection, err := net.Dial("tcp", target.Host)
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	reader := bufio.NewReader(connection)
	request := []byte("POST " + target.RequestURI() + " HTTP/1.1\r\nHost: " + target.Host +
		"\r\nUser-Agent: bench\r\nAccept: */*\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{\"image\": \"cat\"}")
	for began := time.Now(); time.Since(began) < span; {
		sent := time.Now()
		if _, err = connection.Write(request); err == nil {
			err = read(reader)
		}
		if err != nil {
			log.Print(err)
			r.errors++
			return r
		}
		took := time.Since(sent)
		r.took = append(r.took, took)
		if took < every {
			time.Sleep(every - took)
		}
	}
	return r
}

func read(reader *bufio.Reader) error {
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && (response.StatusCode != http.StatusOK || string(body) != answer) {
		err = fmt.Errorf("%s: %.300s", response.Status, body)
	}
	return err
}

func report(results []result, wall time.Duration) {
	var took []time.Duration
	failed := 0
	for _, r := range results {
		took = append(took, r.took...)
		failed += r.errors
	}
	sort.Slice(took, func(a, b int) bool { return took[a] < took[b] })
	json.NewEncoder(os.Stdout).Encode(map[string]any{
		"per_s":  float64(len(took)) / wall.Seconds(),
		"p50_ms": percentile(took, 50),
		"p99_ms": percentile(took, 99),
		"errors": failed,
	})
}

// percentile of sorted durations, in milliseconds.
func percentile(sorted []time.Duration, percent int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	index := (len(sorted)*percent + 99) / 100
	return float64(sorted[index-1].Microseconds()) / 1000
}
