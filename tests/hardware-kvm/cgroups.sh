# Control groups version 2, which the emulated machine has alone: limits of config.json and of `update` stand in the
# files of the host's group, the container sees its share, memory that runs out is told, nothing is left. Sourced by
# inside.sh.
limits='"resources": {"memory": {"limit": 201326592, "reservation": 67108864}, "pids": {"limit": 50},
  "cpu": {"quota": 100000, "period": 100000, "shares": 512}}, "cgroupsPath": "/outer/inner", '
group=/sys/fs/cgroup/outer/inner
is() { # WHAT FILE VALUE
  found=$(cat "$2" 2>&1)
  [ "$found" = "$3" ] || { echo "$1: $2 has \"$found\", not \"$3\""; wrong=1; }
}
with_limits() { # ARGS-AS-JSON
  sed -e "s|ARGS|$1|" -e "s|\"linux\": {|\"linux\": {$(echo "$limits" | tr -d '\n')|" /bundle/config.template > /bundle/config.json
}
for platform in kvm systrap; do
  wrong=0
  with_limits '["sh", "-c", "nproc; grep MemTotal /proc/meminfo; cat /sys/fs/cgroup/pids.max; while [ ! -e /tmp/end ]; do sleep 0.1; done; nproc; exit 7"]'
  : > /tmp/out
  runsc --platform $platform run --bundle /bundle g < /dev/null > /tmp/out 2> /tmp/err &
  command=$!
  tries=0
  until [ "$(wc -l < /tmp/out)" -ge 3 ] || [ $tries -gt 200 ]; do sleep 0.1; tries=$((tries + 1)); done
  is start $group/memory.max 201326592
  is start $group/memory.low 67108864
  is start $group/cpu.max '100000 100000'
  is start $group/cpu.weight 20
  [ "$(head -n 1 /tmp/out)" = 1 ] || { echo "CPUs for a quota of one: $(head -n 1 /tmp/out)"; wrong=1; }
  pid=$(runsc state g | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p')
  grep -qx "$pid" $group/cgroup.procs || { echo "the sandbox process $pid is not in $group"; wrong=1; }
  runsc update --memory 268435456 --cpu-quota 200000 --pids-limit 60 g || wrong=1
  is update $group/memory.max 268435456
  is update $group/cpu.max '200000 100000'
  runsc events --stats g > /tmp/stats || wrong=1
  grep -q '"limit":268435456' /tmp/stats || { echo "stats: $(cat /tmp/stats)"; wrong=1; }
  # What the kernel refuses changes nothing.
  runsc update --cpu-quota 1 g 2> /tmp/refused && { echo "a quota of 1 us was taken"; wrong=1; }
  is refused $group/cpu.max '200000 100000'
  runsc pause g && [ "$(runsc state g | grep -c paused)" = 1 ] && runsc resume g || { echo "pause"; wrong=1; }
  runsc exec g touch /tmp/end || wrong=1
  wait $command; code=$?
  [ $code = 7 ] || { echo "ended with $code: $(cat /tmp/err)"; wrong=1; }
  [ "$(tail -n 1 /tmp/out)" = 2 ] || { echo "CPUs after the update: $(tail -n 1 /tmp/out)"; wrong=1; }
  [ ! -e /sys/fs/cgroup/outer ] || { echo "left: $(find /sys/fs/cgroup/outer -type d)"; wrong=1; rmdir $group /sys/fs/cgroup/outer; }
  end "cgroup2_limits_on_$platform" $wrong

  # The sentry ends what takes too much before the host's group would.
  wrong=0
  with_limits '["sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M count=1; echo ended with $?"]'
  sed -i 's/201326592/100663296/' /bundle/config.json
  timeout -s KILL 90 runsc --platform $platform run --bundle /bundle g < /dev/null > /tmp/out 2> /tmp/err
  grep -qx 'ended with 137' /tmp/out || { echo "out of memory: $(cat /tmp/out /tmp/err)"; wrong=1; }
  [ ! -e /sys/fs/cgroup/outer ] || { echo "left: $(find /sys/fs/cgroup/outer -type d)"; wrong=1; }
  end "cgroup2_memory_runs_out_on_$platform" $wrong
done
