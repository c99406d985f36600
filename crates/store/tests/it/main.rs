//! What every database must do: one suite, run on each kind there is.
#![cfg(test)]

mod cache;
mod conformance;
mod migrations;
mod reader;
mod room;

use store::{Migration, Statement, Value};

/// A table of every type.
const THINGS: Migration = Migration {
    name: "0001_things",
    sqlite: "CREATE TABLE things (id TEXT NOT NULL PRIMARY KEY, number INTEGER, bytes BLOB) STRICT;",
    mysql: "CREATE TABLE IF NOT EXISTS things (id VARCHAR(64) NOT NULL PRIMARY KEY, number BIGINT, \
            bytes LONGBLOB) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;",
};

fn insert(id: &str, number: Option<i64>, bytes: Option<&[u8]>) -> Statement {
    let args = vec![Value::from(id), Value::from(number), Value::from(bytes)];
    Statement::new("INSERT INTO things (id, number, bytes) VALUES (?, ?, ?)", args)
}
