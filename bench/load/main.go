// Creates ConfigMaps of 1 kB as fast as the server takes them, and prints how fast that was.
//
// Every connection has one request under way at a time. A tenth more than asked for is sent first, unmeasured.
// Prints {"per_s", "p50_ms", "p99_ms", "errors"}.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"sort"
	"strings"
	"sync"
	"time"
)

type options struct {
	server, ca, token     string
	requests, connections int
}

// result is what one connection saw.
type result struct {
	took   []time.Duration
	errors int
}

func main() {
	var o options
	flag.StringVar(&o.server, "server", "", "address, https://HOST:PORT")
	flag.StringVar(&o.ca, "ca", "", "file with the server's CA, PEM")
	flag.StringVar(&o.token, "token", "", "file with the bearer token")
	flag.IntVar(&o.requests, "requests", 8000, "how many to measure")
	flag.IntVar(&o.connections, "connections", 8, "how many at the same time")
	flag.Parse()

	token, err := os.ReadFile(o.token)
	if err != nil {
		log.Fatal(err)
	}
	clients := make([]*client, o.connections)
	for i := range clients {
		clients[i] = newClient(o, strings.TrimSpace(string(token)))
	}
	perConnection := o.requests / o.connections
	run(clients, "warm", perConnection/10+1)
	began := time.Now()
	results := run(clients, "bench", perConnection)
	report(results, time.Since(began))
}

func run(clients []*client, prefix string, count int) []result {
	results := make([]result, len(clients))
	var all sync.WaitGroup
	for i := range clients {
		all.Add(1)
		go func(i int) {
			defer all.Done()
			results[i] = clients[i].createMany(fmt.Sprintf("%s-%d", prefix, i), count)
		}(i)
	}
	all.Wait()
	return results
}

// client has one connection of its own.
type client struct {
	http  *http.Client
	url   string
	token string
}

func newClient(o options, token string) *client {
	pem, err := os.ReadFile(o.ca)
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		log.Fatalf("%s holds no certificate", o.ca)
	}
	transport := &http.Transport{MaxConnsPerHost: 1, TLSClientConfig: &tls.Config{RootCAs: roots}}
	return &client{
		http:  &http.Client{Transport: transport, Timeout: 30 * time.Second},
		url:   o.server + "/api/v1/namespaces/default/configmaps",
		token: token,
	}
}

func (c *client) createMany(prefix string, count int) result {
	var r result
	payload := strings.Repeat("x", 880)
	for i := 0; i < count; i++ {
		body := fmt.Sprintf(
			`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"%s-%d","namespace":"default"},"data":{"payload":"%s"}}`,
			prefix, i, payload)
		began := time.Now()
		if err := c.create(body); err != nil {
			if r.errors == 0 {
				log.Printf("%s-%d: %v", prefix, i, err)
			}
			r.errors++
			continue
		}
		r.took = append(r.took, time.Since(began))
	}
	return r
}

func (c *client) create(body string) error {
	request, err := http.NewRequest(http.MethodPost, c.url, strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	request.Header.Set("Content-Type", "application/json")
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusCreated {
		return fmt.Errorf("%s: %.300s", response.Status, answer)
	}
	return nil
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
