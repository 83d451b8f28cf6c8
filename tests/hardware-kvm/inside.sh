# Runs in the emulated machine: each program of /rootfs natively and in the sandbox; output and exit code must agree.
# Prints a line for each test and returns 1 where one failed.
bad=0
end() { # NAME STATUS
  if [ "$2" = 0 ]; then echo "test hardware_kvm::$1 ... ok"; else echo "test hardware_kvm::$1 ... FAILED"; bad=1; fi
}
sandboxed() { # CPUS ARGS-AS-JSON
  sed "s|ARGS|$2|" /bundle/config.template > /bundle/config.json
  timeout -s KILL 90 runsc --platform kvm --debug --debug-log /tmp/debug.log --cpus "$1" run --bundle /bundle t \
    < /dev/null > /tmp/out 2> /tmp/err
  code=$?
  runsc delete --force t
}
compare() { # NAME CPUS NATIVE-COMMAND ARGS-AS-JSON
  rm -rf /tmp/work /tmp/debug.log; mkdir /tmp/work
  (cd /tmp/work && exec env -i PATH=/bin HOME=/tmp LANG=C timeout -s KILL 60 $3) < /dev/null > /tmp/native 2> /tmp/native.err
  native=$?
  sandboxed "$2" "$4"
  if [ "$native" = "$code" ] && cmp -s /tmp/native /tmp/out; then end "$1" 0; return; fi
  echo "$1: exit code $native natively, $code in the sandbox; lines natively (-) and in the sandbox (+):"
  diff -U 0 /tmp/native /tmp/out | head -n 40
  head -n 20 /tmp/err; tail -n 20 /tmp/debug.log
  end "$1" 1
}

mkdir -p /dev/shm; mount -t tmpfs shm /dev/shm
runsc platforms
runsc platforms | grep -q '^kvm *usable: hardware'; end platforms_say_hardware $?
for file in /rootfs/*; do
  [ -f "$file" ] || continue
  name=${file##*/}
  compare "$name" 2 "/rootfs/$name" "[\"/$name\"]"
done
# Longer than the timer of a virtual CPU can count.
compare long_sleep 2 "sleep 5" '["sleep", "5"]'
for cpus in 1 2 4; do
  for script in /scripts/*.sh; do
    name=$(basename "$script" .sh)
    compare "${name}_on_${cpus}_cpus" "$cpus" "sh $script" "[\"sh\", \"$script\"]"
  done
  compare "threads_on_${cpus}_cpus" "$cpus" /rootfs/threads '["/threads"]'
done
. /job/cgroups
[ -z "$(runsc list -q)" ]; end nothing_is_left $?
echo all done
exit $bad
