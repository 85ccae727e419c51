// Command peer keeps messages without a broker: one program that answers once a message's row is on
// disk, into SQLite in groups, or into PostgreSQL one by one. It has what our API has to have: ids
// that sort by time, a bearer token, bounded bodies, JSON answers.
//
//	BENCH_TOKEN=... peer PORT sqlite FILE
//	BENCH_TOKEN=... peer PORT postgres URL
package main

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"regexp"
	"time"
)

const maxBody = 1 << 20

// message is a row to be.
type message struct {
	id, topic, contentType, receivedAt string
	body                               []byte
}

// keeper returns once the row of a message is on disk.
type keeper interface {
	keep(*message) error
}

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: peer PORT sqlite|postgres PLACE")
	}
	port, engine, place := os.Args[1], os.Args[2], os.Args[3]
	open := map[string]func(string) (keeper, error){"sqlite": openSQLite, "postgres": openPostgres}[engine]
	if open == nil {
		log.Fatalf("no such engine: %s", engine)
	}
	rows, err := open(place)
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("POST /topics/{topic}", accept(rows, "Bearer "+os.Getenv("BENCH_TOKEN")))
	log.Fatal(http.ListenAndServe("127.0.0.1:"+port, nil))
}

var topicName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,99}$`)

func accept(rows keeper, credentials string) http.HandlerFunc {
	wanted := []byte(credentials)
	return func(w http.ResponseWriter, r *http.Request) {
		if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), wanted) != 1 {
			http.Error(w, "a token is needed", http.StatusUnauthorized)
			return
		}
		topic := r.PathValue("topic")
		if !topicName.MatchString(topic) {
			http.Error(w, "no name of a topic", http.StatusBadRequest)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
			return
		}
		now := time.Now().UTC()
		one := &message{newID(now), topic, r.Header.Get("Content-Type"), now.Format("2006-01-02T15:04:05.000Z"), body}
		if err := rows.keep(one); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		answer, _ := json.Marshal(map[string]string{
			"id": one.id, "topic": topic, "status": "stored", "received_at": one.receivedAt,
		})
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		w.Write(answer)
	}
}

// newID returns a UUID of version 7: milliseconds, then random bits.
func newID(now time.Time) string {
	var id [16]byte
	rand.Read(id[6:])
	for place, ms := 5, now.UnixMilli(); place >= 0; place, ms = place-1, ms>>8 {
		id[place] = byte(ms)
	}
	id[6], id[8] = id[6]&0x0f|0x70, id[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}
