export PATH=/usr/lib/postgresql/15/bin:$PATH; D=$(mktemp -d); chmod 755 $D; chown postgres $D; exec 2>&1
as() { setpriv --reuid=postgres --regid=postgres --clear-groups env -C $D HOME=$D "$@"; }
as initdb -D $D/d -A trust --locale=C.UTF-8 >$D/il 2>&1 || tail -5 $D/il; tail -1 $D/il | cut -c1-30
as pg_ctl -D $D/d -o "-k $D -c listen_addresses=127.0.0.1 -p 5499 -c shared_buffers=32MB" -w -l $D/log start >/dev/null; echo start $?
as psql -h $D -p 5499 -Atc 'create table t(a int primary key, b text); insert into t select i, md5(i::text) from generate_series(1,20000) i; select count(*), sum(a), max(b) from t; create index on t(b); analyze t; select a from t where b=md5($$77$$)' postgres
as pgbench -h 127.0.0.1 -p 5499 -i -q -s 1 postgres >$D/p 2>&1; echo $?; as pgbench -h 127.0.0.1 -p 5499 -c 8 -j 2 -t 100 postgres >$D/p 2>&1; echo $?; grep -E 'processed|failed' $D/p
as psql -h $D -p 5499 -Atc 'select count(*) from pgbench_history; select sum(abalance)=(select sum(delta) from pgbench_history) from pgbench_accounts; set max_parallel_workers_per_gather=2; set min_parallel_table_scan_size=0; set parallel_setup_cost=0; set parallel_tuple_cost=0; select count(*) from pgbench_accounts where abalance>=-100000000; checkpoint; listen x; copy (select 1) to program $$cat >/dev/null$$' postgres
as pg_dump -h $D -p 5499 -t t postgres | grep -v '^--' | sed '/^\\/d' | md5sum
as pg_ctl -D $D/d -m fast -w stop; grep -iE 'error|fatal|panic|warn' $D/log | sed 's/^[^U]*UTC//' ; rm -r $D
