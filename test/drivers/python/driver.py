"""One session of psycopg 3, driven by lines of JSON: see ../README.md."""

import json
import sys

import psycopg

connection = None
insert = None
heard = []


def connect(request):
    global connection
    connection = psycopg.connect(
        host=request["host"],
        port=request["port"],
        user=request["user"],
        password=request["password"],
        dbname=request["database"],
        connect_timeout=10,
        autocommit=True,
    )
    connection.add_notify_handler(lambda notify: heard.append(notify.payload))
    return {"ok": True}


def hold(request):
    global insert
    insert = f"insert into {request['table']} (n) values (%s)"
    connection.execute("set work_mem = '7MB'")
    connection.execute("select set_config('app.tenant', %s, false)", [request["tenant"]])
    connection.execute(f"listen {request['channel']}")
    return {"ok": True}


def put(number):
    # Prepared on the server, and used by its name from then on.
    connection.execute(insert, [number], prepare=True)


def write(request):
    put(request["number"])
    return {"ok": True}


def transaction(request):
    with connection.transaction():
        for number in request["numbers"]:
            put(number)
    return {"ok": True}


def begin(request):
    connection.execute("begin")
    put(request["number"])
    return {"ok": True}


def commit(request):
    # An aborted transaction's COMMIT is answered with ROLLBACK, which is no error to PostgreSQL.
    return {"ok": True, "tag": connection.execute("commit").statusmessage}


def rollback(request):
    return {"ok": True, "tag": connection.execute("rollback").statusmessage}


def state(request):
    row = connection.execute(
        "select current_setting('work_mem'), current_setting('app.tenant', true),"
        " array(select pg_listening_channels()), inet_server_port()",
    ).fetchone()
    statements = connection.execute("select count(*) from pg_prepared_statements").fetchone()
    return {
        "work_mem": row[0],
        "tenant": row[1],
        "channels": row[2],
        "port": row[3],
        "prepared": statements[0],
        "version": f"psycopg {psycopg.__version__}",
    }


def hear(request):
    connection.execute("select 1")
    payloads = heard[:]
    heard.clear()
    return {"payloads": payloads}


def close(request):
    connection.close()
    return {"ok": True}


requests = {
    "connect": connect,
    "hold": hold,
    "write": write,
    "transaction": transaction,
    "begin": begin,
    "commit": commit,
    "rollback": rollback,
    "state": state,
    "heard": hear,
    "close": close,
}

for line in sys.stdin:
    asked = json.loads(line)
    try:
        answer = requests[asked["do"]](asked)
    except Exception as error:
        is_open = connection is not None and not connection.closed
        code = error.sqlstate if isinstance(error, psycopg.Error) else None
        # What psycopg itself does not expect counts as well: an application would see it.
        answer = {"error": {"code": code, "message": f"{type(error).__name__}: {error}", "open": is_open}}
    print(json.dumps(answer), flush=True)
    if asked["do"] == "close":
        break
