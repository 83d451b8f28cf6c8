# Redis over loopback, 50 clients.
cd /tmp
redis-server --port 7001 --save '' --appendonly no >/dev/null 2>&1 &
until redis-cli -p 7001 ping >/dev/null 2>&1; do sleep 0.05; done
rates() { # label, options
  redis-benchmark -p 7001 -c 50 --csv -t set,get "${@:2}" 2>/dev/null | while IFS=, read -r test rate _; do
    case $test in '"SET"' | '"GET"') echo "redis ${test//\"/}$1|${rate//\"/}|/s" ;; esac
  done
}
rates '' -n 100000
rates ', 16 at once' -n 400000 -P 16
redis-cli -p 7001 shutdown nosave >/dev/null 2>&1
wait
