package main

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"
)

// The same columns as ours. PostgreSQL itself lets transactions that end at once share an fsync. No
// counters of topics: each transaction would wait for the one before to let go of the topic's row.
const postgresSchema = `CREATE TABLE IF NOT EXISTS messages (
	seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	id uuid NOT NULL UNIQUE,
	topic text NOT NULL,
	body bytea NOT NULL,
	received_at timestamptz NOT NULL,
	content_type text,
	meta jsonb
);
CREATE INDEX IF NOT EXISTS messages_topic ON messages (topic)`

type postgresRows struct {
	pool *pgxpool.Pool
}

func openPostgres(url string) (keeper, error) {
	pool, err := pgxpool.New(context.Background(), url)
	if err != nil {
		return nil, err
	}
	_, err = pool.Exec(context.Background(), postgresSchema)
	return &postgresRows{pool}, err
}

func (rows *postgresRows) keep(one *message) error {
	_, err := rows.pool.Exec(context.Background(),
		"INSERT INTO messages (id, topic, body, received_at, content_type) VALUES ($1, $2, $3, $4, $5)",
		one.id, one.topic, one.body, one.receivedAt, one.contentType)
	return err
}
