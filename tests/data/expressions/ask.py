#!/usr/bin/env python3
"""Asks PostgreSQL for the answer of every case here, and writes it into the column `postgresql`.

    initdb -D DIR --locale=C.UTF-8 -U postgres && pg_ctl -D DIR -o "-p 5499" start
    python3 tests/data/expressions/ask.py "host=127.0.0.1 port=5499 user=postgres dbname=postgres"

It needs `psql` (Debian: postgresql-client). The cases of `scalars.csv` are asked over the one row of `row.csv`. Those of `windows.csv` are asked
for every row of `arrivals.csv` over the rows that have arrived until then, for that is what a window holds; rows of one time are in the order of their
arrival. Where PostgreSQL lacks a spelling, the column `asked` has another one of the same meaning. Where larum answers differently,
the column `larum` has its answer and `reason` says why.
"""

import csv
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
TYPES = {"double": "double precision", "string": "text"}
# The answer as text, whatever happens.
ANSWER = """
CREATE FUNCTION pg_temp.answer(query text) RETURNS text LANGUAGE plpgsql AS $f$
DECLARE found text;
BEGIN
    EXECUTE query INTO found;
    RETURN coalesce(found, 'NULL');
EXCEPTION WHEN OTHERS THEN
    RETURN 'error: ' || sqlerrm;
END $f$;
"""


def read(name):
    with open(HERE / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def literal(text):
    return "'" + text.replace("'", "''") + "'"


def scalar_query(expression):
    columns = []
    for field in read("row.csv"):
        kind = TYPES.get(field["type"], field["type"])
        known = field["value"] or field["name"] == "empty"
        columns.append(f"CAST({literal(field['value']) if known else 'NULL'} AS {kind}) AS {field['name']}")
    return f"SELECT ({expression})::text FROM (SELECT {', '.join(columns)}) AS events"


def window_query(expression):
    if "RANGE" not in expression:
        expression = expression.replace("ORDER BY ts", "ORDER BY ts, id")
    return (
        "SELECT string_agg(coalesce((SELECT seen.answer FROM "
        f"(SELECT e.id, ({expression})::text AS answer FROM arrivals e WHERE e.id <= k.id) AS seen "
        "WHERE seen.id = k.id), 'NULL'), '|' ORDER BY k.id) FROM arrivals k"
    )


def arrivals():
    yield (
        "CREATE TEMP TABLE arrivals (id bigint, ts timestamp, host text, x double precision, n bigint, ok boolean, path text);"
    )
    for row in read("arrivals.csv"):
        yield f"INSERT INTO arrivals VALUES ({', '.join(literal(v) if v else 'NULL' for v in row.values())});"


def main(connection):
    for name, query in (("scalars.csv", scalar_query), ("windows.csv", window_query)):
        cases = read(name)
        script = ["\\set ON_ERROR_STOP on", "SET client_min_messages = warning; SET timezone = 'UTC';", ANSWER, *arrivals()]
        script += [f"SELECT pg_temp.answer({literal(query(case['asked'] or case['expression']))});" for case in cases]
        run = ["psql", connection, "--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]
        out = subprocess.run(run, input="\n".join(script), capture_output=True, text=True, check=True, encoding="utf-8")
        answers = out.stdout.splitlines()
        assert len(answers) == len(cases), (len(answers), len(cases), out.stderr)
        with open(HERE / name, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, cases[0].keys(), lineterminator="\n")
            writer.writeheader()
            for case, answer in zip(cases, answers):
                writer.writerow(case | {"postgresql": answer})


if __name__ == "__main__":
    main(*sys.argv[1:])
