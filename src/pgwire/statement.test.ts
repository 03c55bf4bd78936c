import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { scanStatement } from "./statement.ts";

/** t: touches the session, c: may commit, e: ends the transaction, b: only begins one; then settings, parameters, ? = one that cannot be told. */
function short(sql: string, plainStrings = true): string {
  const facts = scanStatement(sql, plainStrings);
  const flags = `${facts.touchesSession ? "t" : ""}${facts.mayCommit ? "c" : ""}${facts.endsTransaction ? "e" : ""}${facts.onlyBegins ? "b" : ""}`;
  const names = [...facts.settings, ...facts.settingParameters.map((number) => `$${number}`)];
  return [flags, ...names, ...(facts.settingUnknown ? ["?"] : [])].join(" ");
}

describe("scanStatement", () => {
  it.each([
    // Rows
    ["select 1", ""],
    ["  SELECT * FROM t WHERE a = $1;", ""],
    ["insert into t values (1)", ""],
    ["with x as (select 1) update t set a = 1", ""],
    ["(select 1)", ""],
    ["select temp from weather", ""],
    ["select 1 into temp t", "t"],
    ["select 1 into temporary table t", "t"],
    ["SELECT 1 INTO LOCAL TEMP t", "t"],
    ["select * from pg_temp.t", "t"],
    ["select 'pg_temp'", ""],
    ["explain analyze select 1", ""],
    ["explain analyze execute p", "t"],
    ["explain analyze create temp table t as select 1", "t"],
    ["create table t as execute p", "t"],
    ["create trigger g after insert on t execute function f()", ""],
    ["copy t from stdin", ""],
    ["update t set a = 1", ""],
    ["table t", ""],
    ["", ""],
    [";;", ""],
    ["-- only a comment", ""],
    // Transactions
    ["begin", "b"],
    ["BEGIN;", "b"],
    [" /* x */ begin ; ", "b"],
    ["begin isolation level repeatable read, read only", "b"],
    ["start transaction read only", "b"],
    ["begin; begin", ""],
    ["begin; select 1", ""],
    ["start", ""],
    ["commit", "ce"],
    ["COMMIT ;", "ce"],
    ["commit and chain", "ce"],
    ["/* x */ commit work", "ce"],
    ["end", "ce"],
    ["END TRANSACTION", "ce"],
    ["rollback", "e"],
    ["abort", "e"],
    ["rollback to savepoint a", ""],
    ["rollback work to a", ""],
    ["rollback and chain", "e"],
    ["savepoint a", ""],
    ["release a", ""],
    ["prepare transaction 'x'", "ce"],
    ["commit prepared 'x'", "c"],
    ["rollback prepared 'x'", "c"],
    ["insert into t values (1); commit", "ce"],
    ["begin; insert into t values (';'); commit; begin", "ce"],
    ["call p()", "tc"],
    ["do $$ begin perform 1; end $$", "tc"],
    // Settings
    ["set work_mem = '1MB'", "t"],
    ["set local work_mem = '1MB'", ""],
    ["set session work_mem to default", "t"],
    ["set transaction isolation level serializable", ""],
    ["set session characteristics as transaction read only", "t"],
    ["set constraints all deferred", ""],
    ["set time zone 'UTC'", "t"],
    ["set role alice", "t"],
    ["set session authorization alice", "t"],
    ["set App.Tenant = '7'", "t app.tenant"],
    ['set "app"."Tenant" to 7', "t app.tenant"],
    ["set a.b.c = 1", "t a.b.c"],
    ["set session app . tenant = 7", "t app.tenant"],
    ["set local app.tenant = 7", " app.tenant"],
    ["set names 'UTF8'", "t"],
    ["reset all", "t"],
    ["reset app.tenant", "t app.tenant"],
    ["discard all", "t"],
    ["select set_config('app.tenant', '7', false)", "t app.tenant"],
    ["select set_config('app.tenant', '7', true)", " app.tenant"],
    ["select set_config('App.Tenant', $1, $2)", "t app.tenant"],
    ["select set_config($1, $2, true)", " $1"],
    ["select pg_catalog.set_config($3, $2, false)", "t $3"],
    ["select \"set_config\"('a.b', '', false)", "t a.b"],
    ["select set_config('app.' || $1, '7', false)", "t ?"],
    ["select set_config(name, '7', false) from t", "t ?"],
    ["select set_config(E'a\\x2eb', '7', false)", "t ?"],
    ["select set_config(U&'a\\002eb', '7', false)", "t ?"],
    ["select set_config('a.b', coalesce($1, ''), true)", " a.b"],
    ["select set_config('a.b', f(1, true), false)", "t a.b"],
    ["select set_config('a.b', set_config('c.d', '1', false), true)", "t a.b ?"],
    ["select set_config('a.b', pg_advisory_lock(1)::text, true)", "t a.b"],
    ["select set_config ( /* x */ 'a.b' , '1', false), set_config('c.d', '1', true)", "t a.b c.d"],
    ["select set_config('work_mem', '1MB', false)", "t"],
    ["select 'set_config(''a.b'', ''1'', false)'", ""],
    ["select set_config from t", ""],
    ["insert into t select set_config('a.b', '1', false)", "t a.b"],
    ["alter system set work_mem = '1MB'", ""],
    ["alter role alice set app.x = 1", ""],
    // Prepared statements, channels, cursors, tables, locks
    ["prepare p as select 1", "t"],
    ["prepare transaction as select 1", "t"],
    ["execute p(1)", "t"],
    ["deallocate all", "t"],
    ["listen c", "t"],
    ["unlisten *", "t"],
    ["notify c", ""],
    ["load 'auto_explain'", "t"],
    ["declare c cursor for select 1", ""],
    ["declare c cursor with hold for select 1", "t"],
    ["declare c scroll cursor without hold for select 1", ""],
    ["create temp table t (a int)", "t"],
    ["create temporary sequence s", "t"],
    ["create local temp table t (a int)", "t"],
    ["create or replace temp view v as select 1", "t"],
    ["create table t (temp int)", ""],
    ["create table pg_temp.t (a int)", "t"],
    ["select pg_advisory_lock(1)", "t"],
    ["select pg_try_advisory_lock_shared(1)", "t"],
    ["select pg_advisory_unlock_all()", "t"],
    ["select pg_advisory_xact_lock(1)", ""],
    ["select pg_try_advisory_xact_lock(1)", ""],
    ["select 'pg_advisory_lock(1)'", ""],
    ['select * from U&"pg\\005ftemp".t', "t"],
    // What only looks like it
    ["select 1 /* ; /* nested */ set a.b = 1 */ from t", ""],
    ["select 1 -- ; set a.b = 1\n from t", ""],
    ["select '; set a.b = 1'", ""],
    ["select $$; set a.b = 1$$, $x$ $$ ; set a.b = 1 $x$", ""],
    ["select E'\\'; set a.b = 1'", ""],
    ['select "; set a.b = 1"', ""],
    ["select 1; set a.b = 1", "t a.b"],
    ["select $1; set a.b = 1", "t a.b"],
    ["create rule r as on insert to t do also (delete from u; commit)", ""],
    [
      "create or replace function f() returns int begin atomic select 1; select case when true then 1 end; end; commit",
      "ce",
    ],
    ["create procedure p() language sql begin atomic select 1; end", ""],
    ["select 'not closed; set a.b = 1", ""],
    ["select /* not closed; set a.b = 1", ""],
    ["select $x$ not closed; set a.b = 1", ""],
    ['select "not closed; set a.b = 1', ""],
  ])("%j: %s", (sql, expected) => expect(short(sql)).toBe(expected));

  it("knows servers on which a backslash in a plain string is special", () => {
    const sql = "select '\\'; set a.b = 1; select '\\'";
    expect(short(sql)).toBe("t a.b");
    expect(short(sql, false)).toBe("");
  });

  it("ends on any text, and finds what stands behind a statement of any content", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const text = Buffer.from(bytes).toString("latin1");
        scanStatement(text);
        const tag = `$q${text.length}$`;
        if (text.includes(tag)) return;
        expect(short(`select ${tag}${text}${tag}; set a.b = 1`)).toBe("t a.b");
        expect(short(`select '${text.replaceAll("'", "''")}'; set a.b = 1`)).toBe("t a.b");
        expect(short(`select "${text.replaceAll('"', '""')}x"; set a.b = 1`)).toBe("t a.b");
      }),
    );
  });
});
