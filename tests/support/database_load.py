#!/usr/bin/python3
"""A client of a database that commits numbered records without end, and writes down what it was told. Runs in a guest:

    database_load.py postgresql:PORT|mariadb|sqlite:FILE LOG

LOG has a line "begin N" before a transaction is begun, and "acked N" when its commit was acknowledged; it lies in tmpfs, which no freeze holds.
A transaction puts N and its checksum into `records`, and N into the one row of `last`: both or none. One whose answer is lost is not
tried again; N goes on."""

import hashlib
import os
import sys
import time

# An emulated guest with four of these has something left for its other work.
PACE_S = 0.05
TABLES = ("CREATE TABLE IF NOT EXISTS records (n INTEGER PRIMARY KEY, sum VARCHAR(64) NOT NULL)",
          "CREATE TABLE IF NOT EXISTS last (n INTEGER NOT NULL)")


def connect(what):
    kind, _, where = what.partition(":")
    if kind == "postgresql":
        import psycopg2
        return psycopg2.connect(dbname="postgres", user="postgres", host="/var/run/postgresql", port=where), "%s"
    if kind == "mariadb":
        import pymysql
        return pymysql.connect(unix_socket="/run/mysqld/mysqld.sock", user="root", database="load_test"), "%s"
    import sqlite3
    db = sqlite3.connect(where, timeout=60)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    return db, "?"


def prepare(db, mark):
    cursor = db.cursor()
    for table in TABLES:
        cursor.execute(table)
    cursor.execute("SELECT COUNT(*) FROM last")
    if not cursor.fetchone()[0]:
        cursor.execute(f"INSERT INTO last VALUES ({mark})", (0,))
    db.commit()
    cursor.execute("SELECT MAX(n) FROM records")
    return cursor.fetchone()[0] or 0


def commit(db, mark, n):
    cursor = db.cursor()
    cursor.execute(f"INSERT INTO records VALUES ({mark}, {mark})", (n, hashlib.sha256(str(n).encode()).hexdigest()))
    cursor.execute(f"UPDATE last SET n = {mark}", (n,))
    db.commit()


def main(what, path):
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    db, mark = connect(what)
    n = prepare(db, mark)
    while True:
        n += 1
        os.write(log, f"begin {n}\n".encode())
        try:
            if not db:
                db, mark = connect(what)
            commit(db, mark, n)
        except Exception as error:  # each library has classes of its own
            os.write(log, f"lost {n}: {' '.join(str(error).split())}\n".encode())
            db = None
        else:
            os.write(log, f"acked {n}\n".encode())
        time.sleep(PACE_S)


main(*sys.argv[1:])
