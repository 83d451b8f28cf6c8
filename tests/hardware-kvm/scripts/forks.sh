# Processes: many at a time, signals, exit codes, timers.
for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  (sleep 0.1; exit $n) &
  all="$all $!"
done
sum=0
for pid in $all; do wait $pid; sum=$((sum + $?)); done
echo $sum
sleep 100 & kill $!; wait $!; echo $?
sh -c 'kill -9 $$'; echo $?
trap 'echo usr1' USR1; kill -USR1 $$; echo after
timeout 0.2 sleep 100; echo $?
busy() { n=0; while [ $n -lt 3000 ]; do n=$((n + 1)); done; echo $n; }
busy & busy & busy & busy & wait
x=$(echo $(echo $(echo nested))); echo $x
n=0; while [ $n -lt 30 ]; do /bin/busybox true; n=$((n + 1)); done; echo $n
exit 7
