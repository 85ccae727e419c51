package main

import (
	"database/sql"
	"unicode/utf8"

	_ "github.com/mattn/go-sqlite3"
)

// mostTogether bounds a transaction; what waits while one commits goes into the next.
const mostTogether = 1024

const insertMessage = `INSERT INTO messages (id, topic, body, received_at, content_type)
	VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`
const countMessages = `INSERT INTO topics (topic, messages, bytes, first_at, last_at) VALUES (?, ?, ?, ?, ?)
	ON CONFLICT (topic) DO UPDATE SET messages = messages + excluded.messages, bytes = bytes + excluded.bytes,
	first_at = min(first_at, excluded.first_at), last_at = max(last_at, excluded.last_at)`

type waiting struct {
	*message
	done chan error
}

// sqliteRows has one goroutine that writes: all that wait share a transaction, and its fsync.
type sqliteRows struct {
	incoming      chan waiting
	database      *sql.DB
	insert, count *sql.Stmt
}

// openSQLite opens a database that has our schema.
func openSQLite(path string) (keeper, error) {
	database, err := sql.Open("sqlite3", "file:"+path+"?mode=rw&_synchronous=FULL&_txlock=immediate&_cache_size=-16000&_busy_timeout=5000")
	if err != nil {
		return nil, err
	}
	database.SetMaxOpenConns(1)
	if _, err := database.Exec("PRAGMA wal_autocheckpoint = 5000"); err != nil {
		return nil, err
	}
	rows := &sqliteRows{incoming: make(chan waiting, mostTogether), database: database}
	if rows.insert, err = database.Prepare(insertMessage); err != nil {
		return nil, err
	}
	if rows.count, err = database.Prepare(countMessages); err != nil {
		return nil, err
	}
	go rows.write()
	return rows, nil
}

func (rows *sqliteRows) keep(one *message) error {
	done := make(chan error, 1)
	rows.incoming <- waiting{one, done}
	return <-done
}

func (rows *sqliteRows) write() {
	group := make([]waiting, 0, mostTogether)
	for first := range rows.incoming {
		group = append(group[:0], first)
	gather:
		for len(group) < mostTogether {
			select {
			case next := <-rows.incoming:
				group = append(group, next)
			default:
				break gather
			}
		}
		err := rows.store(group)
		for _, each := range group {
			each.done <- err
		}
	}
}

type sum struct {
	messages, bytes int
	first, last     string
}

func (rows *sqliteRows) store(group []waiting) error {
	transaction, err := rows.database.Begin()
	if err != nil {
		return err
	}
	defer transaction.Rollback()
	insert, count := transaction.Stmt(rows.insert), transaction.Stmt(rows.count)
	sums := map[string]*sum{}
	for _, each := range group {
		var body any = each.body
		if utf8.Valid(each.body) {
			body = string(each.body)
		}
		if _, err := insert.Exec(each.id, each.topic, body, each.receivedAt, each.contentType); err != nil {
			return err
		}
		of := sums[each.topic]
		if of == nil {
			of = &sum{first: each.receivedAt}
			sums[each.topic] = of
		}
		of.messages, of.bytes, of.last = of.messages+1, of.bytes+len(each.body), each.receivedAt
	}
	for topic, of := range sums {
		if _, err := count.Exec(topic, of.messages, of.bytes, of.first, of.last); err != nil {
			return err
		}
	}
	return transaction.Commit()
}
